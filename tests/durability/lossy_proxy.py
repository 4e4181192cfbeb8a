"""A TCP proxy that passes every request on and loses one answer in so many.

It reads HTTP/1.1 just enough to know where a request ends and an answer ends. A lost answer was
really given: the server did the work, the client never hears of it and its SDK repeats the call.
"""

import socket
import threading


class LossyProxy:
    """Listens on a free loopback port; `lost` counts the answers it swallowed."""

    def __init__(self, upstream, lose_every=5):
        host, port = upstream.removeprefix("http://").split(":")
        self.upstream = (host, int(port))
        self.lose_every = lose_every
        self.answers = 0
        self.lost = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, socket.create_connection(self.upstream) as server:
            from_client, from_server = client.makefile("rb"), server.makefile("rb")
            while (request := read_message(from_client, is_request=True)) is not None:
                server.sendall(request)
                answer = read_message(from_server, is_request=False)
                if answer is None or self._loses():
                    return
                client.sendall(answer)

    def _loses(self):
        with self._lock:
            self.answers += 1
            if self.answers % self.lose_every:
                return False
            self.lost += 1
            return True

    def close(self):
        self._listener.close()


def read_message(stream, is_request):
    """One HTTP/1.1 message, byte for byte; None at the end of the stream."""
    head = bytearray()
    length, chunked = 0, False
    while True:
        line = stream.readline()
        if not line:
            return None
        head += line
        if line in (b"\r\n", b"\n"):
            break
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
        if name.strip().lower() == b"transfer-encoding" and b"chunked" in value.lower():
            chunked = True
    if not is_request and head.startswith(b"HTTP/1.1 100"):
        return read_message(stream, is_request)
    return bytes(head) + (read_chunks(stream) if chunked else stream.read(length))


def read_chunks(stream):
    body = bytearray()
    while True:
        line = stream.readline()
        body += line
        size = int(line.split(b";")[0], 16)
        body += stream.read(size + 2)
        if size == 0:
            return bytes(body)
