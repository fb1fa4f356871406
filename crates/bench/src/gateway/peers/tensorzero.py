"""Starts TensorZero's own HTTP gateway on a free port of the loopback interface, writes its address and stays."""

import pathlib
import signal
import sys
import types

import tensorzero

config, told = sys.argv[1:]
# Any object will do as OpenAI's client: the gateway's address is put into it.
client = types.SimpleNamespace(base_url=None)
client = tensorzero.patch_openai_client(client, config_file=config, async_setup=False)
draft = pathlib.Path(told + ".new")
draft.write_text(str(client.base_url))
draft.rename(told)
signal.pause()
