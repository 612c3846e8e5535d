"""A stand-in for the Hugging Face hub on the loopback interface: repositories, commits, Git LFS uploads, downloads.

The real ``huggingface_hub`` client talks to it through HF_ENDPOINT. Everything that was sent is in ``bodies``.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

LFS_SUFFIXES = (".safetensors", ".gguf")


@dataclass
class Repository:
    """One model repository; ``commits`` maps each commit to its files."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        """Those of the last commit."""
        return self.commits[-1][1]

    @property
    def sha(self) -> str:
        """The last commit."""
        return self.commits[-1][0]

    def commit(self, files: dict[str, bytes]) -> str:
        """Add a commit with exactly these files."""
        digest = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits.append((digest, files))
        return digest


@dataclass
class Fault:
    """What happens to the next ``count`` requests whose path has ``part``: a status, or a broken connection (0)."""

    part: str
    status: int
    message: str = ""
    count: int = 1
    method: str = ""


class HubStandIn:
    """The state of the hub."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []
        self.endpoint = ""

    def add(self, name: str, files: dict[str, bytes], *, private: bool = False) -> Repository:
        """A repository with one commit."""
        repository = self.repositories[name] = Repository(private)
        repository.commit(files)
        return repository

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault for a request, used up."""
        for fault in self.faults:
            if fault.part in path and fault.count and fault.method in ("", method):
                fault.count -= 1
                return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: object) -> None:
        pass

    def _json(self, value: Any, status: int = 200, **headers: str) -> None:
        self._send(json.dumps(value).encode(), status, Content_Type="application/json", **headers)

    def _error(self, status: int, message: str, code: str = "") -> None:
        headers = {"X_Error_Message": message, **({"X_Error_Code": code} if code else {})}
        self._json({"error": message}, status, **headers)

    def _send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _handle(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.hub.requests.append((self.command, path))
        fault = self.hub.fault(self.command, path)
        if fault is not None and fault.status == 0:
            self.rfile.read(min(1024, int(self.headers.get("Content-Length") or 0)))
            self.close_connection = True
            self.connection.close()
            return
        body = self._body()
        self.hub.bodies.append(body)
        if fault is not None:
            self._error(fault.status, fault.message)
            return
        self._route(path, body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815 (the names that http.server calls)

    @property
    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _route(self, path: str, body: bytes) -> None:
        hub = self.hub
        if path.startswith("/lfs/"):
            self._stored(path.removeprefix("/lfs/"), body)
        elif path == "/lfs-verify":
            self._json({})
        elif self.headers.get("Authorization") and not self._known:
            self._error(401, "Invalid credentials in Authorization header")
        elif path == "/api/whoami-v2":
            self._json({"name": "ada", "type": "user", "orgs": []})
        elif path == "/api/validate-yaml":
            wrong = "license: nonsense" in json.loads(body)["content"]
            errors = [{"message": '"license" must be one of [apache-2.0, mit]'}] if wrong else []
            self._json({"errors": errors, "warnings": []}, 400 if wrong else 200)
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif path.startswith("/api/models/"):
            owner, short, *more = path.removeprefix("/api/models/").split("/")
            self._model(f"{owner}/{short}", more, body)
        elif "/resolve/" in path:
            name, _, rest = path.lstrip("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            self._resolve(hub.repositories.get(name), revision, file)
        else:
            self._error(404, "not found")

    def _create(self, about: dict[str, Any]) -> None:
        name = f"{about.get('organization') or 'ada'}/{about['name']}"
        if name in self.hub.repositories:
            self._error(409, "You already created this model repo")
            return
        private = about.get("visibility") == "private" or bool(about.get("private"))
        repository = self.hub.repositories[name] = Repository(private)
        repository.commit({".gitattributes": b""})
        self._json({"url": f"{self.hub.endpoint}/{name}", "name": name})

    def _batch(self, about: dict[str, Any]) -> None:
        objects = []
        for wanted in about["objects"]:
            upload = {"href": f"{self.hub.endpoint}/lfs/{wanted['oid']}?X-Amz-Signature=secret", "header": {}}
            actions = {} if wanted["oid"] in self.hub.objects else {"actions": {"upload": upload}}
            objects.append({**wanted, **actions})
        self._json({"transfer": "basic", "objects": objects})

    def _stored(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            self._error(400, "digest mismatch")
            return
        self.hub.objects[oid] = body
        self._json({})

    def _model(self, name: str, rest: list[str], body: bytes) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._known):
            self._error(404, "Repository not found", "RepoNotFound")
        elif rest[:1] == ["preupload"]:
            modes = [
                {"path": file["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular"}
                for file in json.loads(body)["files"]
            ]  # fmt: skip
            self._json({"files": modes})
        elif rest[:1] == ["commit"]:
            self._json(
                {"commitOid": self._commit(repository, body), "commitUrl": f"{self.hub.endpoint}/{name}/commit/x"}
            )
        elif rest[:1] == ["tree"]:
            self._tree(repository, rest[1])
        else:
            self._info(name, repository, rest[1] if rest[:1] == ["revision"] else "main")

    def _commit(self, repository: Repository, body: bytes) -> str:
        files = dict(repository.files)
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        return repository.commit(files)

    def _files(self, repository: Repository, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return repository.commits[-1]
        return next(((sha, files) for sha, files in repository.commits if sha == revision), None)

    def _info(self, name: str, repository: Repository, revision: str) -> None:
        found = self._files(repository, revision)
        if found is None:
            self._error(404, "Invalid rev id", "RevisionNotFound")
            return
        siblings = [
            {"rfilename": file, "size": len(data), "blobId": hashlib.sha1(data).hexdigest(), **_lfs(file, data)}
            for file, data in found[1].items()
        ]
        self._json({"id": name, "modelId": name, "sha": found[0], "private": repository.private, "tags": [],
                    "siblings": siblings})  # fmt: skip

    def _tree(self, repository: Repository, revision: str) -> None:
        found = self._files(repository, revision)
        if found is None:
            self._error(404, "Invalid rev id", "RevisionNotFound")
            return
        rows = []
        for file, data in found[1].items():
            about = {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            lfs = _lfs(file, data).get("lfs")
            rows.append({**about, **({"lfs": {**lfs, "oid": lfs["sha256"]}} if lfs else {})})
        self._json(rows)

    def _resolve(self, repository: Repository | None, revision: str, file: str) -> None:
        if repository is None or (repository.private and not self._known):
            self._error(404, "Repository not found", "RepoNotFound")
            return
        found = self._files(repository, revision)
        if found is None:
            self._error(404, "Invalid rev id", "RevisionNotFound")
        elif file not in found[1]:
            self._error(404, "Entry not found", "EntryNotFound")
        else:
            data = found[1][file]
            etag = f'"{hashlib.sha256(data).hexdigest()}"'
            self._send(data, 200, ETag=etag, X_Repo_Commit=found[0])


def _lfs(file: str, data: bytes) -> dict[str, Any]:
    if not file.endswith(LFS_SUFFIXES):
        return {}
    return {"lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}}


@contextmanager
def hub_standin(token: str) -> Iterator[HubStandIn]:
    """A hub that knows one token, until the block ends."""
    hub = HubStandIn(token)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
