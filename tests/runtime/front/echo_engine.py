"""An engine that shows what reached it and misbehaves when a request says so; standard library only, run as a program.

Speaks spec/launch.md, 3. Its one argument before --host is a JSON object: `load_seconds`, `die_at_start` (exit status).
Requests: `/generate?pieces=…&seconds=…&die_after=…&kind=…` answers piece by piece; `/die` ends the engine unanswered;
`/state` tells how many generations run, were finished and were given up by their client; others show the request.
"""

import json
import os
import signal
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, urlsplit

OPTIONS = json.loads(sys.argv[1])
STATUS = int(os.environ.pop("MKLLM_STATUS_FD"))
LIFELINE = int(os.environ.pop("MKLLM_LIFELINE_FD"))
READY = threading.Event()
STATE = {"running": 0, "finished": 0, "given_up": 0}
LOCK = threading.Lock()


def count(**changes):
    with LOCK:
        for name, change in changes.items():
            STATE[name] += change


def die():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        url = urlsplit(self.path)
        if url.path == "/health":
            return self.whole(200 if READY.is_set() else 503, {})
        if self.headers.get("Authorization") != f"Bearer {os.environ['LLAMA_API_KEY']}":
            return self.whole(401, {"error": {"message": "wrong engine key"}})
        if url.path == "/die":
            die()
        elif url.path == "/state":
            self.whole(200, STATE)
        elif url.path == "/generate" or "stream" in dict(parse_qsl(url.query)):
            self.generate(**dict(parse_qsl(url.query)))
        elif url.path == "/missing":
            self.whole(404, {"error": {"message": "no such thing"}})
        elif url.path == "/unreadable":
            self.body()
            self.whole(500, {"error": {"code": 500, "message": dict(parse_qsl(url.query))["message"]}})
        else:
            self.echo()

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = handle_any

    def echo(self):
        body = self.body()
        text = body.decode("latin-1") if len(body) < 10_000 else ""
        self.whole(
            200,
            {
                "method": self.command,
                "path": self.path,
                "headers": [[name, value] for name, value in self.headers.items()],
                "length": len(body),
                "body": text,
                "arguments": sys.argv[1:],
            },
        )

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def generate(self, pieces="5", seconds="0", die_after="-1", kind="text/event-stream", stream=""):
        self.body()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        count(running=1)
        try:
            for number in range(int(pieces)):
                if number == int(die_after):
                    die()
                self.piece(b"data: %d\n\n" % number)
                time.sleep(float(seconds))
            self.wfile.write(b"0\r\n\r\n")
            count(running=-1, finished=1)
        except (BrokenPipeError, ConnectionResetError):
            count(running=-1, given_up=1)
            self.close_connection = True

    def piece(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def whole(self, status, body):
        data = json.dumps(body, separators=(",", ":")).encode()  # as llama.cpp writes it
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("X-Engine", "echo")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def address_string(self):
        return "unix"

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def tell(**event):
    os.write(STATUS, json.dumps(event).encode() + b"\n")


def follow_lifeline():
    while os.read(LIFELINE, 1):
        pass
    os._exit(0)


def main():
    threading.Thread(target=follow_lifeline, daemon=True).start()
    tell(event="backend", file="echo", loaded=True)
    if OPTIONS.get("die_at_start"):
        print("error: told to die", flush=True)
        os._exit(OPTIONS["die_at_start"])
    server = Server("\0" + sys.argv[sys.argv.index("--host") + 1][1:], Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for step in range(1, 5):
        tell(event="progress", value=step / 4)
        time.sleep(OPTIONS.get("load_seconds", 0) / 4)
    READY.set()
    tell(event="loaded")
    signal.pause()


if __name__ == "__main__":
    main()
