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
