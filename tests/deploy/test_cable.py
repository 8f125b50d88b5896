"""A client whose cable is cut while the app goes on sending: nothing tells idlegate that it has gone.

    tests/run sidecar

The client has a network namespace of its own, at the other end of a virtual cable. A third of a minute.
"""
import base64
import hashlib
import os
import pathlib
import re
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import network
from waiting import eventually

BINARY = pathlib.Path(os.environ["TEST_ROOTFS"]) / "idlegate"
TIMEOUT = 5
# What was not acknowledged for 3 s counts no longer; the app's next message, the second after the limit, a busy machine.
LATE = 3 + 1 + 1 + 2

# Opens a WebSocket, says so, and reads for ever.
CLIENT = f"""
import socket, sys
connection = socket.create_connection(("{network.NODE}", int(sys.argv[1])))
connection.sendall(b"GET /ws HTTP/1.1\\r\\nHost: app\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\n"
                   b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\nX-Token: ada\\r\\n\\r\\n")
print(connection.recv(4096).split(b" ")[1].decode(), flush=True)
while connection.recv(4096):
    pass
"""


class App(socketserver.StreamRequestHandler):
    """Sends a message every half second, for as long as it can."""

    def handle(self):
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", b"".join(iter(self.rfile.readline, b"\r\n")), re.I)[1]
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        try:
            while True:
                self.wfile.write(b"\x81\x05hello")
                time.sleep(0.5)
        except OSError:
            pass


class Cable(unittest.TestCase):
    def test_what_is_sent_to_a_client_whose_cable_is_cut_keeps_no_session(self):
        network.prepare()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        app = socketserver.ThreadingTCPServer(("127.0.0.1", 0), App)
        app.daemon_threads = True
        threading.Thread(target=app.serve_forever, daemon=True).start()
        self.addCleanup(app.shutdown)
        config, log = pathlib.Path(folder.name) / "proxy.toml", pathlib.Path(folder.name) / "log"
        config.write_text(
            f'listen = "{network.NODE}:0"\nupstream = "http://127.0.0.1:{app.server_address[1]}"\naudit = "none"\n'
            f'[idle]\ntimeout = "{TIMEOUT}s"\n[[token]]\nfrom = "header"\nname = "x-token"\n'
        )
        with log.open("wb") as output:
            proxy = subprocess.Popen([BINARY, "--config", config], stderr=output)
        self.addCleanup(proxy.wait)
        self.addCleanup(proxy.kill)
        said = lambda words: re.search(words, log.read_text())
        eventually("idlegate", lambda: said(r"listening on http://\S+:\d+"))
        port = said(r"listening on http://\S+:(\d+)")[1]
        away = network.PodNetwork("10.77.0.20")
        self.addCleanup(away.close)
        client = subprocess.Popen([*away.enter, sys.executable, "-c", CLIENT, port], stdout=subprocess.PIPE, text=True)
        self.addCleanup(client.stdout.close)
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        self.assertEqual(client.stdout.readline().strip(), "101")
        # The app's messages keep the session of a client that takes them.
        time.sleep(TIMEOUT + 3)
        self.assertFalse(said("session ended"), log.read_text())
        network.run("ip", "link", "set", "pod20", "down")
        cut = time.monotonic()
        while not said("session ended"):
            self.assertLess(time.monotonic() - cut, TIMEOUT + LATE, "what nobody takes keeps a session")
            time.sleep(0.1)
        after = time.monotonic() - cut
        print(f"cut {after:.1f} s after the cable, with a limit of {TIMEOUT} s")
        # The last acknowledgement may be half a second older than the cut.
        self.assertGreater(after, TIMEOUT - 1)


if __name__ == "__main__":
    unittest.main()
