"""The Collector with the shipped configuration, what it writes, and the backend that it hands traces on to."""

import gzip
import http.server
import json
import os
import socket
import threading

from processes import Process, free_port, until

KEY = "Bearer of-the-backend-alone"
# As OTLP numbers them.
KINDS = {1: "internal", 2: "server", 3: "client"}
ERROR = 2


class Backend:
    """Stands for Tempo, Jaeger and others: takes OTLP over HTTP and keeps it. `with` ends it."""

    def __init__(self):
        self.bodies, self.keys = [], set()
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                backend.bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                backend.keys.add(self.headers.get("Authorization"))
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()

    def has(self, trace):
        return any(bytes.fromhex(trace.id) in body for body in self.bodies)


class Span:
    """One span as it lies in the file."""

    def __init__(self, service, told):
        self.service, self.name, self.trace, self.id = service, told["name"], told["traceId"], told["spanId"]
        self.parent, self.kind = told.get("parentSpanId", ""), KINDS.get(told.get("kind"), told.get("kind"))
        self.begin, self.end = int(told["startTimeUnixNano"]), int(told["endTimeUnixNano"])
        self.failed = told.get("status", {}).get("code") == ERROR
        self.attributes = attributes(told)


def attributes(told):
    return {attribute["key"]: value(attribute["value"]) for attribute in told.get("attributes", [])}


def value(told):
    """An attribute's value; OTLP writes whole numbers as texts."""
    if "intValue" in told:
        return int(told["intValue"])
    if "arrayValue" in told:
        return [value(one) for one in told["arrayValue"].get("values", [])]
    return next(iter(told.values()), None)


class Collector:
    """`with` ends the process."""

    def __init__(self, program, repository, folder, backend):
        self.port, self.file = free_port(), folder / "traces.jsonl"
        shipped = repository / "deploy/otel-collector"
        environment = {
            **os.environ,
            "TRACES_LISTEN": f"127.0.0.1:{self.port}",
            "TRACES_ENDPOINT": f"http://127.0.0.1:{backend.server.server_port}",
            "TRACES_AUTHORIZATION": KEY,
            "TRACES_FILE": str(self.file),
        }
        command = [program, f"--config={shipped / 'config.yaml'}", f"--config={shipped / 'trial.yaml'}"]
        self.process = Process("otelcol", command, folder, environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def ready(self):
        def listens():
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True

        until("the Collector listens", 20, listens, self.process)

    def text(self):
        return self.file.read_text() if self.file.exists() else ""

    def spans(self):
        """All that came so far. The last line may be half written."""
        found = []
        for line in self.text().split("\n")[:-1]:
            for of_service in json.loads(line).get("resourceSpans", []):
                service = attributes(of_service["resource"]).get("service.name")
                found += [Span(service, told) for of_scope in of_service["scopeSpans"] for told in of_scope["spans"]]
        return found

    def trace(self, trace):
        return [span for span in self.spans() if span.trace == trace.id]

    def wait_for(self, trace, *names):
        """The trace once it has spans of all these names: processes send every five seconds."""

        def complete():
            spans = self.trace(trace)
            return spans if set(names) <= {span.name for span in spans} else None

        return until(f"the Collector has {', '.join(names)} of trace {trace.id}", 20, complete, self.process)
