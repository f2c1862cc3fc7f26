"""The model: content and histories in, the next interest out. It receives tensors and reads no files."""

from recbole_llm_interest.activation import activate

activate()
