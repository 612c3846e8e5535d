"""Text for scanned PDFs by OCRmyPDF, in a copy in the cache; the user's file is never changed."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from mlx_ragtune.clients.file_digests import cache_folder
from mlx_ragtune.errors import InputError, ToolError

TIMEOUT_SECONDS = 3600.0
"""Longest time for one paper."""
_INSTALL = "pip install 'mlx-ragtune[ocr]', and install tesseract: brew install tesseract, or apt install tesseract-ocr"


def ocr_problem() -> str:
    """Why scanned papers cannot be read on this machine, or ""."""
    if importlib.util.find_spec("ocrmypdf") is None:
        return "the package ocrmypdf is not installed"
    return "" if shutil.which("tesseract") else "the program tesseract is not installed"


def with_text(path: Path, sha256: str, *, languages: str, replace_text: bool) -> Path:
    """A copy of the PDF with text on its scanned pages, made once for each content; its name is that of the PDF.

    ``languages`` are Tesseract's, such as ``deu+eng``. ``replace_text`` also reads pages that have text, since it is
    not what they show. Raises InputError for a PDF that OCRmyPDF cannot read, ToolError when it cannot run.
    """
    if problem := ocr_problem():
        raise ToolError(problem, where="corpus.ocr", fix=_INSTALL)
    folder = cache_folder() / "ocr" / f"{sha256[:32]}-{languages}{'-all' * replace_text}"
    target = folder / path.name
    if target.exists():
        return target
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if not target.exists():
                partial = folder / f".partial-{os.getpid()}.pdf"
                try:
                    _run(path, partial, languages=languages, replace_text=replace_text)
                    partial.rename(target)
                finally:
                    partial.unlink(missing_ok=True)
    except OSError as error:
        raise ToolError(
            f"cannot store the text of a scan: {error.strerror or error}",
            where=str(folder),
            fix="free disk space, or set RAGTUNE_CACHE to a folder that can be written",
        ) from None
    return target


def _run(path: Path, target: Path, *, languages: str, replace_text: bool) -> None:
    command = [
        sys.executable, "-P", "-m", "ocrmypdf", "--quiet", "--output-type", "pdf", "--optimize", "0",
        "--force-ocr" if replace_text else "--skip-text", "--language", languages, "--invalidate-digital-signatures",
        "--", str(path.resolve()), str(target),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"OCR takes longer than {TIMEOUT_SECONDS:.0f} seconds", where=str(path)) from None
    if done.returncode == 0 and target.exists():
        return
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    said = re.sub(r"\s+", " ", lines[-1])[:200] if lines else f"exit status {done.returncode}"
    if done.returncode == 3:  # a program or a language that is missing
        raise ToolError(f"OCR cannot run: {said}", where="corpus.ocr", fix=_INSTALL)
    raise InputError(f"OCR failed: {said}", where=str(path), fix="run OCR on it with another program, or remove it")
