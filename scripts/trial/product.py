"""Kontor with a database of its own and a small model."""

import json
import os
import subprocess

from processes import Failure, Process, ask, free_port, until

MODEL = "smollm2-135m-instruct"
FILE = "smollm2-135m-instruct-q4_1.gguf"
FOREIGN = ("KONTOR__", "LEPTOS_", "OTEL_")


def table(name, values):
    """One of a list, in TOML; a text in JSON is one there, too."""
    return "\n".join([f"[[{name}]]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""])


class Product:
    """`with` ends the process. `more`: further configuration, as environment variables; `models`: further models."""

    def __init__(self, program, repository, cache, folder, more, models=()):
        self.program, self.folder = program, folder
        self.port, self.metrics = free_port(), f"127.0.0.1:{free_port()}"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN) and name != "DATABASE_URL"}
        self.environment |= {
            "KONTOR__SERVER__ADDR": f"127.0.0.1:{self.port}",
            "KONTOR__METRICS__ADDR": self.metrics,
            "KONTOR__DATA_DIR": str(folder / "data"),
            "KONTOR__CACHE_DIR": str(cache),
            # As the product itself understands it: only if there is none beside the program.
            "LEPTOS_SITE_ROOT": os.environ.get("LEPTOS_SITE_ROOT", str(repository / "target/site")),
            **more,
        }
        offered = [{"id": MODEL, "path": str(cache / "models" / FILE), "context_length": 2048}, *models]
        (folder / "kontor.toml").write_text("\n".join(table("models.offered", model) for model in offered))
        self.process = Process("kontor", [program, "serve"], folder, self.environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def ready(self, seconds=90):
        """Waits for the model."""
        until("Kontor is ready", seconds, lambda: ask(self.url("/readyz")).status == 200, self.process)

    def account(self, name, purpose):
        """The key of a new service account."""
        self.admin("create-service-account", "--tenant", "demo", "--name", name, "--purpose", purpose)
        return self.admin("create-key", "--tenant", "demo", "--account", name)["key"]

    def admin(self, *words):
        done = subprocess.run(
            [self.program, "admin", "--json", *words], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode:
            raise Failure(f"`kontor admin {' '.join(words)}` failed:\n{done.stderr}")
        return json.loads(done.stdout)

    def figures(self):
        """What Prometheus reads."""
        return ask(f"http://{self.metrics}/metrics").body.decode()
