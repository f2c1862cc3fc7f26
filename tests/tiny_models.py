"""Small models with random weights, as their libraries save them."""

import torch

from recbole_llm_interest.activation import activate

activate()  # transformers imports torchvision, which may need a patch


def tokenizer_of(words, **special):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate([*special.values(), "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", model_max_length=32, **special)


def masked_model(folder, words):
    """A plain BERT, as saved by transformers: no pooling file. Returns the folder."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=50, max_position_embeddings=32, **sizes)).save_pretrained(folder)
    tokenizer_of(words, pad_token="[PAD]", mask_token="[MASK]").save_pretrained(folder)
    return folder


def causal_model(folder, words):
    """A plain causal language model, without a padding token, as most come. Returns the folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes)).save_pretrained(folder)
    tokenizer_of(words, eos_token="</s>").save_pretrained(folder)
    return folder


def audio_model(kind, folder):
    """A small audio model with random weights, saved with its feature extractor."""
    import transformers as t

    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "wav2vec2":
        model = t.Wav2Vec2Model(t.Wav2Vec2Config(**small, conv_dim=(8, 8), conv_kernel=(10, 8), conv_stride=(80, 4),
                                                 num_feat_extract_layers=2, num_conv_pos_embeddings=4,
                                                 num_conv_pos_embedding_groups=2))  # fmt: skip
        extractor = t.Wav2Vec2FeatureExtractor()
    elif kind == "hubert":
        model = t.HubertModel(t.HubertConfig(**small, conv_dim=(8, 8), conv_kernel=(10, 8), conv_stride=(80, 4),
                                             num_feat_extract_layers=2, num_conv_pos_embeddings=4,
                                             num_conv_pos_embedding_groups=2))  # fmt: skip
        extractor = t.Wav2Vec2FeatureExtractor()
    elif kind == "whisper":
        model = t.WhisperModel(t.WhisperConfig(d_model=16, encoder_layers=2, decoder_layers=1, vocab_size=50,
                                               encoder_attention_heads=2, decoder_attention_heads=2,
                                               encoder_ffn_dim=32, decoder_ffn_dim=32, pad_token_id=0, bos_token_id=1,
                                               eos_token_id=2, decoder_start_token_id=1))  # fmt: skip
        extractor = t.WhisperFeatureExtractor()
    elif kind == "ast":
        model = t.ASTModel(t.ASTConfig(**small, max_length=1024))
        extractor = t.ASTFeatureExtractor()
    else:
        audio = {"enable_fusion": kind == "clap fused", "hidden_size": 16, "patch_embeds_hidden_size": 8,
                 "depths": [1, 1], "num_attention_heads": [1, 2], "num_hidden_layers": 2, "projection_dim": 12,
                 "spec_size": 256, "window_size": 4}  # fmt: skip
        text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
                "vocab_size": 20, "projection_dim": 12}  # fmt: skip
        model = t.ClapModel(t.ClapConfig(audio_config=audio, text_config=text, projection_dim=12))
        extractor = t.ClapFeatureExtractor(truncation="fusion" if kind == "clap fused" else "rand_trunc")
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder
