"""A stand-in for the Hugging Face Hub on 127.0.0.1: what its client asks for, and no more.

Files of weights go over its large-file protocol, others within the commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

ROOT = Path(__file__).resolve().parents[2]


class Hub:
    """Models by name: their commits, oldest first, each with all files."""

    def __init__(self) -> None:
        self.models: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        """Add files to a model; the hash of the commit."""
        commits = self.models[name]
        now = (commits[-1][1] if commits else {}) | files
        text = json.dumps([len(commits), sorted((k, _sha(v)) for k, v in now.items())])
        commits.append((hashlib.sha1(text.encode()).hexdigest(), now))
        return commits[-1][0]

    def find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """A commit by its hash, or the newest."""
        commits = self.models.get(name, [])
        if revision == "main":
            return commits[-1] if commits else None
        return next((found for found in commits if found[0] == revision), None)


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")

    def answer(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.answer({"error": code}, status, X_Error_Code=code, X_Error_Message=code)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self) -> None:
        path, body = unquote(self.path), self.body()
        if path == "/api/validate-yaml":
            return self.validate(json.loads(body)["content"])
        if self.headers.get("Authorization") != "Bearer hf_test":
            return self.refuse(401, "RepoNotFound")
        if path == "/api/repos/create":
            told = json.loads(body)
            name = "/".join(filter(None, (told.get("organization"), told["name"])))
            if name in self.hub.models:
                return self.answer({"url": f"{self.hub.url}/{name}"}, 409)
            self.hub.models[name] = []
            self.hub.private[name] = told.get("visibility") == "private"
            return self.answer({"url": f"{self.hub.url}/{name}", "id": name})
        if found := re.fullmatch(r"/api/models/(.+/.+)/preupload/main", path):
            files = json.loads(body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in files
            ]
            return self.answer({"files": modes})
        if re.fullmatch(r"/(.+/.+)\.git/info/lfs/objects/batch", path):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.hub.url}/large/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self.answer(
                {"transfer": "basic", "objects": objects},
                Content_Type="application/vnd.git-lfs+json",
            )
        if found := re.fullmatch(r"/api/models/(.+/.+)/commit/main", path):
            files = {}
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.hub.large[value["oid"]]
            commit = self.hub.commit(found[1], files)
            url = f"{self.hub.url}/{found[1]}/commit/{commit}"
            return self.answer({"success": True, "commitOid": commit, "commitUrl": url})
        return self.refuse(404, "EntryNotFound")

    def validate(self, content: str) -> None:
        """As the hub does for licences: an id, or `other` with a name."""
        found = yaml.safe_load(content.split("---\n")[1])
        if found.get("license") not in (None, "mit", "cc-by-4.0", "cc-by-nc-sa-4.0"):
            return self.answer(b'"license" must be one of [mit, ...]', 400)
        return self.answer({"errors": [], "warnings": []})

    def do_PUT(self) -> None:
        body = self.body()
        self.hub.large[self.path.rpartition("/")[2]] = body
        self.answer(b"")

    def do_GET(self) -> None:
        path = unquote(self.path).partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/tree|/revision)?(?:/(.+))?", path):
            name, tree, revision = found[1], found[2] == "/tree", found[3] or "main"
            commit = self.hub.find(name, revision)
            if commit is None:
                code = "RevisionNotFound" if name in self.hub.models else "RepoNotFound"
                return self.refuse(404, code)
            if tree:
                return self.answer([self.entry(*file) for file in commit[1].items()])
            siblings = [{"rfilename": file} for file in commit[1]]
            return self.answer({"id": name, "sha": commit[0], "siblings": siblings})
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            commit = self.hub.find(found[1], found[2])
            if commit is None or found[3] not in commit[1]:
                return self.refuse(404, "EntryNotFound")
            content = commit[1][found[3]]
            return self.answer(content, ETag=f'"{_sha(content)}"', X_Repo_Commit=commit[0])
        return self.refuse(404, "EntryNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def entry(self, path: str, content: bytes) -> dict[str, Any]:
        return {"type": "file", "path": path, "size": len(content), "oid": _sha(content)[:40]}


class Machine:
    """Somebody's machine with its own cache, a token, and the stand-in for the hub."""

    def __init__(self, place: Path, folder: Path, url: str, token: str = "hf_test") -> None:
        self.folder, self.home = folder, place / "hf"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        self.environment = kept | {
            "HF_ENDPOINT": url,
            "HF_HOME": str(self.home),
            "HF_TOKEN": token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_ETAG_TIMEOUT": "2",
            "NO_PROXY": "*",
            "PYTHONPATH": str(ROOT),
        }

    def python(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Exit status, output and errors of Python in the folder."""
        done = subprocess.run(
            (sys.executable, *arguments),
            cwd=self.folder, env=self.environment | environment, capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def mclr(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        return self.python("-m", "mclr", *arguments, **environment)

    def draw(self, model: str, out: str, **environment: str) -> tuple[int, str, str]:
        options = ("--classes", "0", "--per-class", "1", "--output", out)
        return self.mclr("draw", "--model", model, *options, **environment)
