"""The end of a prompt that llama.cpp repeats before an answer of Gemma 4, whose prompts end with empty thoughts."""

_BEGIN, _END = "<|channel>", "<channel|>"


class PromptEcho:
    """Takes the end of a rendered prompt from the first pieces of the answer; of other prompts nothing is taken."""

    def __init__(self, prompt: str = "") -> None:
        self._rest = prompt[prompt.rindex(_BEGIN) :] if prompt.endswith(_END) and _BEGIN in prompt else ""

    def without(self, text: str) -> str:
        """What of the next piece of text belongs to the answer."""
        if not self._rest or not text:
            return text
        if self._rest.startswith(text):
            self._rest = self._rest.removeprefix(text)
            return ""
        text, self._rest = text.removeprefix(self._rest), ""
        return text
