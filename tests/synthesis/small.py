"""A very small chat model made of rules: one question for the sentence or the field at the end of the prompt."""

import re

from mlx_ragtune.records import ChatReply, ChatRequest
from mlx_ragtune.scoring.answers.normalize import words
from mlx_ragtune.synthesis.content_words import content_stems


class Small:
    """Writes one question for the sentence or field at the end of the prompt; every third one is of no use."""

    def __init__(self) -> None:
        self.requests: list[ChatRequest] = []

    def chat(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        given = request.messages[-1].content
        name, said = re.fullmatch(r"(Fact|Topic): (.*)\nQuestion:", given, re.S).groups()  # type: ignore[union-attr]
        useless = len(said) % 3 == 0 and request.sampling.temperature == 0
        rare = [word for word in words(said) if content_stems(word)]
        turn = f" in season {request.sampling.seed % 97}" if request.sampling.temperature else ""
        asked = f"What do {rare[0]} and {rare[1]} have to do with {rare[2]}?" if name == "Fact" else ""
        text = "What is the difference between the two?" if useless else asked or f"Who started {said}{turn}?"
        return ChatReply(text, "stop", 100, 12, 0.01)
