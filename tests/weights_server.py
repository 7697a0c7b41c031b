"""A server of files on this machine that can break off, and a table of weights that it publishes."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mmmim.config import weights as table
from mmmim.utils import download


class Server(ThreadingHTTPServer):
    """Serves ``files`` by name, with ranges; ``asked`` has the name and the range of every request.

    Attributes:
        cuts: Numbers of bytes after which the next connections break off; a status instead of bytes as ('status', 503).
        headers: Further headers of every answer, such as ``Content-Type``.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), _Handler)
        self.files, self.tags, self.asked, self.cuts, self.headers = {}, {}, [], [], {}

    def url(self, name):
        return f'http://127.0.0.1:{self.server_port}/{name}'


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, name = self.server, self.path.lstrip('/')
        asked = self.headers.get('Range')
        server.asked.append((name, asked))
        cut = server.cuts.pop(0) if server.cuts else None
        if isinstance(cut, tuple):
            self.send_error(cut[1])
            return
        if name.startswith('redirect/'):
            self.send_response(302)
            self.send_header('Location', f'{name.partition("/")[2]}')
            self.end_headers()
            return
        if name not in server.files:
            self.send_error(404)
            return
        content, tag = server.files[name], server.tags.get(name, '"1"')
        start = int(asked.removeprefix('bytes=').rstrip('-')) if asked and self.headers['If-Range'] == tag else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(content)}')
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
        headers = {'Content-Length': str(len(content) - start), 'ETag': tag, **server.headers}
        for key, value in headers.items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content[start:] if cut is None else content[start : start + cut])


@contextmanager
def serving(monkeypatch):
    """The server while it runs; http is allowed inside, and nothing is waited for between two connections."""
    monkeypatch.setattr(download, 'SCHEMES', ('http',))
    monkeypatch.setattr(download, 'PAUSE', 0.0)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Row(table.PublishedWeights):
    """A row of a table of tests, whose addresses are http."""

    def __post_init__(self):
        pass


def publish(monkeypatch, *rows):
    """Make a table of these rows that of mmmim."""
    content = table.WeightsTable('Of a test.', {row.name: row for row in rows})
    monkeypatch.setattr(table, '_read', lambda path: content)
