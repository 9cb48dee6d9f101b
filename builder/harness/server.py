"""A running artifact as the evaluation asks it: tokens, probabilities, texts. Knows HTTP and nothing of tasks.

The engine tells probabilities of tokens that it generates, not of those of a prompt. So a token that is to be scored is
forced, by a bias, and is told with the probability that it had without one.
"""

import http.client
import json
import math
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mkllm.builder.errors import NoAnswer

SCHEMES = ("http", "https")
ROOTS = ("", "/", "/v1", "/v1/")
SECONDS = 3600.0  # without a byte: one answer is computed on a slow machine
BIAS = 1e9
LEAST = -126 * math.log(2)  # the engine has probabilities in 32 bits; what is smaller is told as this
SEED = 1234


@dataclass(frozen=True)
class Facts:
    """What a server says of itself: `context` in tokens, `slots` requests at once, names of special tokens."""

    model: str
    context: int
    slots: int
    vocabulary: int
    bos: str
    eos: str
    chat_template: str


def is_address(text: str) -> bool:
    """Whether that names a server, not a file on one. Raises NoAnswer for one that cannot be right."""
    if not text.lower().startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        return False
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise NoAnswer(f"{hidden(text)!r} is no address: write it like http://127.0.0.1:8080") from None
    return bool(parts.hostname) and parts.path in ROOTS


def hidden(url: str) -> str:
    """The address of a server as it may be shown: without a name and a password."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


class Server:
    """An artifact that serves at `url`; every thread has a connection of its own. All methods raise NoAnswer."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = hidden(url.removesuffix("/").removesuffix("/v1"))
        self._parts = urlsplit(self.url)
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._own = threading.local()
        self._open: list[http.client.HTTPConnection] = []
        self._stopped = False

    def facts(self) -> Facts:
        """Ask what it serves."""
        properties, models = self._ask("GET", "/props"), self._ask("GET", "/v1/models")
        try:
            (model,) = models["data"]
            return Facts(
                model=model["id"],
                context=properties["default_generation_settings"]["n_ctx"],
                slots=properties["total_slots"],
                vocabulary=model["meta"]["n_vocab"],
                bos=properties["bos_token"] or "",
                eos=properties["eos_token"] or "",
                chat_template=properties["chat_template"] or "",
            )
        except (KeyError, TypeError, ValueError):
            raise NoAnswer(f"{self.url!r} is no artifact's server: start one, and give its address") from None

    def tokenize(self, text: str, special: bool) -> list[int]:
        """The tokens of a text; names of tokens in it are these. `special`: with what the model begins a text with."""
        body = {"content": text, "add_special": special, "parse_special": True}
        return list(self._ask("POST", "/tokenize", body)["tokens"])

    def score(self, prompt: Sequence[int], token: int, slot: int, facts: Facts, end: int) -> tuple[float, bool]:
        """The natural logarithm of the probability of `token` behind `prompt`, and whether it is the likeliest.

        `end` is a token that ends texts.
        """
        told = self._next(prompt, token, slot, 1)
        if told is None:
            # A part of a character: the engine tells of no token that does not end one. Beside one, it tells of all.
            told = self._next(prompt, end, slot, facts.vocabulary)
        found = [row for row in (told or {}).get("top_logprobs", ()) if row["id"] == token]
        if told and told["id"] == token:
            found = [told]
        if not told or not found:
            raise NoAnswer(f"{self.url!r} tells no probability of the token {token}: its engine is not llama.cpp's")
        return max(LEAST, found[0]["logprob"]), told["top_logprobs"][0]["id"] == token

    def _next(self, prompt: Sequence[int], token: int, slot: int, count: int) -> dict[str, Any] | None:
        """What is told of the next token, which is `token`, and of the `count` likeliest."""
        body = {"prompt": list(prompt), "n_predict": 1, "n_probs": count, "id_slot": slot}
        coldest = {"temperature": 0, "samplers": ["temperature"], "logit_bias": [[token, BIAS]]}
        told = self._ask("POST", "/completion", {**body, **coldest})
        return next(iter(told.get("completion_probabilities", ())), None)

    def generate(
        self, prompt: Sequence[int], slot: int, most: int, until: Sequence[str], how: Mapping[str, Any]
    ) -> str:
        """At most `most` tokens behind `prompt`, up to the first text of `until`; `how`: temperature and its like."""
        samplers = ["top_k", "top_p", "min_p", "temperature"]
        sampling = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": SEED, **how, "samplers": samplers}
        body = {"prompt": list(prompt), "n_predict": most, "stop": list(until), "id_slot": slot, **sampling}
        return str(self._ask("POST", "/completion", body)["content"])

    def render(self, messages: Sequence[Mapping[str, Any]], answer: bool) -> str:
        """The messages in the model's chat template; `answer`: up to where an answer begins."""
        body = {"messages": list(messages), "add_generation_prompt": answer}
        return str(self._ask("POST", "/apply-template", body)["prompt"])

    def stop(self) -> None:
        """Break off whatever is under way, in other threads; nothing more can be asked."""
        self._stopped = True
        for connection in self._open:
            if connection.sock:
                try:
                    connection.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # it is closed already

    def close(self) -> None:
        """Close all connections; nobody else may be asking."""
        for connection in self._open:
            connection.close()

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body)
        for last in (False, True):
            connection = self._connection()
            try:
                connection.request(method, path, data, self._headers)
                answer = connection.getresponse()
                text = answer.read()
                break
            except (http.client.HTTPException, OSError, UnicodeError) as error:  # the last: a name that is none
                connection.close()
                # One that was kept may have been closed meanwhile.
                if last or self._stopped or not isinstance(error, (http.client.RemoteDisconnected, BrokenPipeError)):
                    raise self._silent(error) from None
        return self._read(path, answer.status, text)

    def _connection(self) -> http.client.HTTPConnection:
        if self._stopped:
            raise NoAnswer(f"{self.url!r} is asked no more")
        if not hasattr(self._own, "connection"):
            kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            self._own.connection = kind(self._parts.netloc, timeout=SECONDS)
            self._open.append(self._own.connection)
        connection: http.client.HTTPConnection = self._own.connection
        return connection

    def _silent(self, error: Exception) -> NoAnswer:
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
        return NoAnswer(f"{self.url!r} does not answer ({reason}): start the artifact there, or name its file")

    def _read(self, path: str, status: int, text: bytes) -> Any:
        try:
            told = json.loads(text)
        except ValueError:
            told = None
        if status == http.client.UNAUTHORIZED:
            raise NoAnswer(f"{self.url!r} demands a key: give it with --api-key or MKLLM_API_KEY")
        if status != http.client.OK or not isinstance(told, dict):
            why = f"{status}: {_reason(told)}"
            raise NoAnswer(f"{self.url!r} does not answer {path} ({why}): does its model write text?")
        return told


def _reason(told: Any) -> str:
    error = told.get("error") if isinstance(told, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return str(message or "it gives no reason").rstrip(".")[:300]
