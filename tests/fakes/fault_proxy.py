"""FAKE of a bad network between a daemon and PostgreSQL: a Unix socket that passes bytes on, until told otherwise."""
import os
import pathlib
import select
import socket
import threading


class FaultProxy:
    """`folder` is what a daemon gets as host=; `target` is the folder of the real socket. All in one thread."""

    def __init__(self, folder, target, port=5432):
        self.folder, self.target = pathlib.Path(folder), pathlib.Path(target) / f".s.PGSQL.{port}"
        self.folder.mkdir(parents=True, exist_ok=True)
        os.chmod(self.folder, 0o755)
        self.listener = socket.socket(socket.AF_UNIX)
        path = self.folder / f".s.PGSQL.{port}"
        self.listener.bind(str(path))
        os.chmod(path, 0o777)
        self.listener.listen(100)
        self.peers = {}          # socket -> its other side
        self.clients = set()     # those sockets that lead to a daemon
        self.silent = False      # bytes stay where they are, connections too
        self.refusing = False    # new connections are closed at once
        self.cutting = False
        self.forgetting = False
        self.mute = set()        # connections whose other side is gone without a word; they stay open
        self.closing = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def cut(self):
        """Ends every connection as a reset does."""
        self.cutting = True

    def forget(self):
        """Half-open: the server's ends are gone, nobody tells the daemons, new connections are fine."""
        self.forgetting = True

    def run(self):
        while not self.closing:
            if self.forgetting:
                self.forgetting = False
                for client, server in [(a, b) for a, b in self.peers.items() if a in self.clients]:
                    del self.peers[client], self.peers[server]
                    server.close()
                    self.mute.add(client)
            if self.cutting:
                self.cutting = False
                for s in list(self.peers):
                    self.end(s)
            watched = [self.listener] if not self.silent else []
            watched += list(self.peers) if not self.silent else []
            ready, _, _ = select.select(watched, [], [], 0.02)
            for s in ready:
                if s is self.listener:
                    self.accept()
                elif s in self.peers:
                    self.pass_on(s)
        for s in [*self.peers, *self.mute]:
            self.end(s)
        self.listener.close()

    def accept(self):
        client, _ = self.listener.accept()
        if self.refusing:
            client.close()
            return
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self.target))
        except OSError:
            client.close()
            return
        self.peers[client], self.peers[server] = server, client
        self.clients.add(client)

    def pass_on(self, s):
        try:
            data = s.recv(1 << 16)
            if data:
                self.peers[s].sendall(data)
                return
        except OSError:
            pass
        self.end(s)

    def end(self, s):
        other = self.peers.pop(s, None)
        self.clients -= {s, other}
        if other:
            self.peers.pop(other, None)
            other.close()
        s.close()

    def close(self):
        self.closing = True
        self.thread.join(5)
