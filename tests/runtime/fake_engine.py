"""An engine for tests: speaks the whole protocol of spec/launch.md, 3, answers with the words it was asked, and
misbehaves as the JSON file named by FAKE_ENGINE says. Standard library only; it is run as a member of an artifact.

Keys of that file: `start` (by backend's file name, or `*`: `SIGILL`, `exit 3`, `hang`, `compute 1.5`
(seconds), `unloadable`), `measure` (the same, by backend's file name and word of the command: `libx.so prompt`, or
`slice`), `tokens` (a second, of reading and of writing, 1 by default), `load_seconds`,
`devices` (what it lists of GPUs, or how it misbehaves when it is to; for all backends, or by backend's file name),
`prepack` (`nothing` to order, `no space`, `garbage`, or how it misbehaves when it is to), `in_place`, `restore`
(`otherwise`: other bytes, `damaged`, or how it misbehaves), `restored` (that weights were not used in place),
`deny_term`, `port_taken` (a file: where it is not, it is made, and the address cannot be had), `journal` (a file
that gets a line for each thing that happens).
"""

import json
import os
import signal
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler

WINDOWS = sys.platform == "win32"
STATUSES = {"SIGILL": 0xC000001D, "SIGSEGV": 0xC0000005}  # what Windows ends programs with
CONFIG = json.load(open(os.environ["FAKE_ENGINE"])) if "FAKE_ENGINE" in os.environ else {}
if "--list-devices" in sys.argv:
    none = "Available devices:\n  (none)\n"
    words = CONFIG.get("devices", none)
    if isinstance(words, dict):
        words = words.get(os.path.basename(os.environ["MKLLM_BACKENDS"]), none)
    if words.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, words))
    print(words)
    sys.exit()


def descriptor_of(number):
    if not WINDOWS or number < 0:
        return number
    import msvcrt

    return msvcrt.open_osfhandle(number, os.O_BINARY)


STATUS = descriptor_of(int(os.environ.pop("MKLLM_STATUS_FD", "-1")))
LIFELINE = descriptor_of(int(os.environ.pop("MKLLM_LIFELINE_FD", "-1")))
BACKENDS = os.environ.pop("MKLLM_BACKENDS").split("|" if WINDOWS else ":")
EMBEDDED = os.environ.pop("MKLLM_EMBEDDED")
READY = threading.Event()


def journal(text):
    if "journal" in CONFIG:
        with open(CONFIG["journal"], "a") as file:
            file.write(f"{os.getpid()} {text}\n")


def tell(**event):
    os.write(STATUS, json.dumps(event).encode() + b"\n")


def end_with_lifeline():
    while os.read(LIFELINE, 1):
        pass
    journal("lifeline")
    os._exit(0)


def misbehave(how):
    print(f"error: told to {how}", file=sys.stderr, flush=True)
    if how.startswith("SIG") and WINDOWS:
        os._exit(STATUSES[how] - (1 << 32))
    if how.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, how))
        time.sleep(5)
    if how == "hang":
        time.sleep(600)
    if how.startswith("compute"):
        end = time.monotonic() + float(how.split()[1])
        while time.monotonic() < end:
            pass
    if how.startswith("exit"):
        os._exit(int(how.split()[1]))


def embedded():
    """Descriptor, offset and length."""
    name, _, place = EMBEDDED.partition("=")
    assert name == "model.gguf" and place.endswith("p") == (
        sys.argv[1] in ("restore", "in-place") or "restored" in CONFIG
    )
    descriptor, offset, length = (int(number) for number in place.rstrip("p").replace("@", ":").split(":"))
    return descriptor_of(descriptor), offset, length


def read(descriptor, size, offset):
    if not WINDOWS:
        return os.pread(descriptor, size, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, size)


def load():
    descriptor, offset, length = embedded()
    assert read(descriptor, 4, offset) == b"GGUF" and length > 4
    if "restored" in CONFIG:
        tell(event="weights", how="restored" if CONFIG["restored"] else "in place")
    for step in range(1, 5):
        tell(event="progress", value=step / 4)
        time.sleep(CONFIG.get("load_seconds", 0) / 4)
    tell(event="loaded")
    READY.set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/health":
            self.whole(200 if READY.is_set() else 503, {"status": "ok"})
        else:
            self.whole(200, {"path": self.path, "arguments": sys.argv[1:], "environment": dict(os.environ)})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {os.environ['LLAMA_API_KEY']}":
            return self.whole(401, {"error": {"message": "Invalid API Key", "type": "authentication_error"}})
        text = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        if "refuse" in text:
            return self.whole(400, {"error": {"message": "told to refuse", "type": "invalid_request_error"}})
        if "too long" in text:
            error = {"type": "exceed_context_size_error", "message": "long", "n_prompt_tokens": 999, "n_ctx": 512}
            return self.whole(400, {"error": error})
        words = [word + " " for word in text.split()]
        system = [m["content"] for m in body.get("messages", []) if m["role"] == "system"]
        words += [f"[system: {system[0]}]"] if system else []
        if "before" in text:
            before = [m["content"] for m in body["messages"][:-1] if m["role"] != "system"]
            words += [f"[{', '.join(before)}]"]
        self.stream(body, words)

    def stream(self, body, words):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        timings = {"prompt_n": 3, "cache_n": 1, "prompt_ms": 2.0, "predicted_n": len(words), "predicted_ms": 8.0}
        try:
            for word in words:
                if "segfault" in word:
                    misbehave("SIGSEGV")
                if "endless" in word:
                    time.sleep(0.05)
                    words.append(word)
                self.event(self.piece(body, word))
            for event in self.last(body, timings):
                self.event(event)
            self.wfile.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        except BrokenPipeError:
            journal("client went away")
            self.close_connection = True

    def piece(self, body, word):
        if "messages" not in body:
            return {"content": word, "stop": False}
        kind = "reasoning_content" if word.startswith("hm") else "content"
        return {"choices": [{"index": 0, "delta": {kind: word}, "finish_reason": None}]}

    def last(self, body, timings):
        limit = body.get("n_predict") or body.get("max_tokens")
        if "messages" not in body:
            return [{"content": "", "stop": True, "stop_type": "limit" if limit else "eos", "timings": timings}]
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length" if limit else "stop"}]}
        return [end, {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}, "timings": timings}]

    def event(self, event):
        data = b"data: " + json.dumps(event).encode() + b"\n\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def whole(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self):
        return "unix"

    def log_message(self, *args):
        print(*args, file=sys.stderr, flush=True)


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer if WINDOWS else socketserver.UnixStreamServer):
    daemon_threads = True


def slice_():
    misbehave_if_told("slice")
    sys.stdout.buffer.write(b"GGUF" + bytes(4))


def misbehave_if_told(what):
    if how := CONFIG.get("measure", {}).get(what):
        misbehave(how)


def measure():
    """Answers at once with the times that its speeds come to; weights repacked are twice as fast."""
    module = os.path.basename(BACKENDS[0])
    journal(f"measure {module}")
    repack, times = 1, 3
    for line in sys.stdin:
        word, *numbers = line.split()
        misbehave_if_told(f"{module} {word}")
        journal(line.strip())
        rate = CONFIG.get("tokens", 1.0) * repack
        if word == "load":
            repack = 2 if numbers[0] == "1" else 1
        if word == "times":
            times = int(numbers[0])
        read = int(numbers[0]) / rate
        seconds = {"prompt": [read] * times, "generate": [1 / rate] * times, "memory": [0.01] * times}.get(word, 0.01)
        print(json.dumps({"error": "told to"} if word == CONFIG.get("deny") else {"seconds": seconds}), flush=True)


def inverted(descriptor, offset, length):
    """Weights in another layout, of which the header is left as it is: its own inverse."""
    data = read(descriptor, length, offset)
    return data[:8] + bytes(byte ^ 0xFF for byte in data[8:])


def prepack():
    descriptor, offset, length = embedded()
    how = CONFIG.get("prepack", "")
    if how == "no space":
        sys.exit("mkllm-engine: the weights cannot be written: No space left on device")
    if how == "garbage":
        return print("hello")
    if how == "nothing":
        return print(json.dumps({"size": length, "tensors": 0, "bytes": 0}))
    misbehave(how) if how else None
    os.pwrite(descriptor, inverted(descriptor, offset, length) + b"index", offset)
    print(json.dumps({"done": length}))
    print(json.dumps({"size": length + 5, "tensors": 3, "bytes": length}))


def restore():
    descriptor, offset, length = embedded()
    how = CONFIG.get("restore", "")
    if how == "damaged":
        sys.exit("mkllm-engine: the index is damaged")
    misbehave(how) if how not in ("", "otherwise") else None
    data = inverted(descriptor, offset, length - 5)
    sys.stdout.buffer.write(data[::-1] if how == "otherwise" else data)


def main():
    if sys.argv[1] == "in-place":
        embedded()
        return print(json.dumps({"in_place": CONFIG.get("in_place", True)}))
    if sys.argv[1] in ("prepack", "restore"):
        return prepack() if sys.argv[1] == "prepack" else restore()
    if sys.argv[1] in ("slice", "measure"):
        threading.Thread(target=end_with_lifeline, daemon=True).start()
        return slice_() if sys.argv[1] == "slice" else measure()
    journal("start " + os.path.basename(BACKENDS[0]))
    threading.Thread(target=end_with_lifeline, daemon=True).start()
    if "--wrong" in sys.argv:
        print("error: invalid argument: --wrong", file=sys.stderr, flush=True)
        os._exit(1)
    start = CONFIG.get("start", {})
    how = start.get(os.path.basename(BACKENDS[0]), start.get("*", ""))
    tell(event="backend", file=BACKENDS[0], loaded=how != "unloadable")
    if how == "unloadable":
        misbehave("exit 1")
    misbehave(how)
    if CONFIG.get("deny_term"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = serving()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    load()
    if not WINDOWS:
        signal.pause()
    time.sleep(600)


def serving():
    host = sys.argv[sys.argv.index("--host") + 1]
    taken = CONFIG.get("port_taken")
    if taken and not os.path.exists(taken):
        open(taken, "w").close()
        print("couldn't bind HTTP server socket", file=sys.stderr, flush=True)
        os._exit(1)
    if not WINDOWS:
        return Server("\0" + host[1:], Handler)
    return Server((host, int(sys.argv[sys.argv.index("--port") + 1])), Handler)


if __name__ == "__main__":
    main()
