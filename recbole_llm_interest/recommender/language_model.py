"""A causal language model on this machine that continues a text, always in the same way."""

from __future__ import annotations

import functools
from typing import Any

from recbole_llm_interest.activation import activate
from recbole_llm_interest.content.encoders.text_models import TextModel
from recbole_llm_interest.content.encoders.weights import check_missing_weights
from recbole_llm_interest.errors import EncoderError

#: beams of the search: candidates that a text is chosen from
_BEAMS = 6


class LanguageModel:
    """Continues texts by beam search, without randomness.

    Args:
        name: ``smollm2``, a GGUF file, a folder of transformers, or a name in the hub's cache.

    Raises:
        EncoderError: the weights are not found or are of no causal model, or a package is missing.

    Example:
        >>> LanguageModel("smollm2").files.gguf
        'SmolLM2-135M-Instruct.Q4_1.gguf'
    """

    def __init__(self, name: str = "smollm2") -> None:
        self.name = name
        self.files = TextModel.find(name)
        self.files.require_packages()
        if not self.files.is_causal:
            raise EncoderError(f"{name!r} is no causal language model: name one, such as smollm2")

    def continuations(self, prompt: str, tokens: int) -> list[str]:
        """The likeliest continuations of a text up to the end of its line, the best first.

        Args:
            prompt: the text.
            tokens: of a continuation, at most.

        Raises:
            EncoderError: the model does not load, or transformers cannot continue texts by it.
        """
        import torch

        model, tokenizer = self._model
        words = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        try:
            with torch.inference_mode():
                found = model.generate(
                    **words,
                    max_new_tokens=tokens,
                    num_beams=_BEAMS,
                    num_return_sequences=_BEAMS,
                    do_sample=False,
                    pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
                    stop_strings=["\n"],
                    tokenizer=tokenizer,
                )
        except (ValueError, TypeError, RuntimeError, IndexError) as error:  # of a tokenizer or a network that is odd
            reason = " ".join(str(error).split())
            raise EncoderError(f"the language model {self.name!r} cannot continue texts: {reason}") from error
        start = words["input_ids"].shape[1]
        texts = [tokenizer.decode(ids[start:], skip_special_tokens=True).partition("\n")[0].strip() for ids in found]
        return list(dict.fromkeys(filter(None, texts)))

    @functools.cached_property
    def _model(self) -> tuple[Any, Any]:
        activate()  # transformers imports torchvision, which may need a patch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder, arguments = self.files.folder, {"local_files_only": True, **self.files.loading_arguments}
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **arguments)
            model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **arguments)
        except Exception as error:  # transformers raises many exception types for a damaged folder
            reason = " ".join(str(error).split())
            raise EncoderError(f"the language model {self.name!r} in {folder} does not load: {reason}") from error
        check_missing_weights("text", self.name, folder, report["missing_keys"])
        return model.eval(), tokenizer
