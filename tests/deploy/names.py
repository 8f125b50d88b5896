"""A name server for a network of the tests' own: it knows a few addresses and nothing else."""
import socket
import struct
import threading

A = 1
FOUND, NO_SUCH_NAME = 0x8180, 0x8183


class NameServer:
    """Answers on port 53 of `address`. `addresses` maps full names; `asked` is every name that somebody asked for."""

    def __init__(self, address, addresses):
        self.addresses = addresses
        self.asked = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            query, client = self.socket.recvfrom(512)
            self.socket.sendto(self._answer(query), client)

    def _answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12 : at + 5]
        name = ".".join(labels)
        self.asked.append(name)
        address = self.addresses.get(name)
        answer = b""
        if address and struct.unpack(">H", query[at + 1 : at + 3])[0] == A:
            # The name is the one at offset 12, of class IN, for five seconds.
            answer = struct.pack(">HHHIH", 0xC00C, A, 1, 5, 4) + socket.inet_aton(address)
        head = struct.pack(">HHHHH", FOUND if address else NO_SUCH_NAME, 1, 1 if answer else 0, 0, 0)
        return query[:2] + head + question + answer
