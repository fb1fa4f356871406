"""Tries that a worker computes on a graphics card; `scripts/try-gpu` starts this. Standard library only.

Its argument: `vulkan`, `cuda`, or `no-card` for a program with `cuda` where there is no card, which must work all the same.
Kontor has free ports and one folder. All layers of a chat model and of one for vectors belong on the card.
"""

import concurrent.futures
import math
import pathlib
import re
import sys

# Before the modules of installed packages, which may have the same names, and behind this folder's own.
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1] / "trial"))  # what trials have in common

import devices
from processes import ask, until
from product import MODEL, Product
from trial import CACHE, REPOSITORY, run

VECTORS, VECTORS_FILE, DIMENSIONS = "multilingual-e5-small", "multilingual-e5-small-q4_0.gguf", 384
# So small a model is sure of few things: asked in other words it answers otherwise on each kind of processor.
QUESTION, ANSWER = "What is the capital city of France called?", "Paris"
# At the same time as the first; what they are answered, so small a model decides.
FURTHER = ("Italy", "Spain", "Germany", "Japan", "Egypt", "Greece", "Poland")
# A processor that plays a card compiles its programs before the first answer.
PATIENCE = 900
ON_CARD = {"vulkan": "Vulkan", "cuda": "CUDA"}
SEE = "crates/worker/src/model.rs and cards.rs choose; llama.cpp's own lines are in kontor.log"


def started(program, folder, environment):
    more = {
        "KONTOR__WORKERS__GPU_LAYERS": "99",
        "KONTOR__WORKERS__SLOTS": "8",
        # llama.cpp says there what it puts where.
        "KONTOR__LOG__LEVEL": "info,llama-cpp-2=info",
        **environment,
    }
    vectors = {"id": VECTORS, "kind": "embedding", "path": str(CACHE / "models" / VECTORS_FILE), "context_length": 512}
    return Product(program, REPOSITORY, CACHE, folder, more, [vectors])


def on_card(report, kontor, backend):
    """What llama.cpp says of where it puts two models: one worker each."""
    text = "\n".join(kontor.process.lines())
    named = sorted(set(re.findall(rf"using device ({backend}\d+) \((.+?)\) \([^()]*\) - (\d+) MiB free", text)))
    shown = "; ".join(f"{device} ({name}), {free} MiB free" for device, name, free in named)
    report.check(f"the workers name the card and its memory: {shown}", named and all(int(free) > 0 for _, _, free in named), "no such line", SEE)
    layers = re.findall(r"offloaded (\d+)/(\d+) layers to GPU", text)
    report.check(f"all layers of both models lie there: {layers}", len(layers) >= 2 and all(there == of for there, of in layers), str(layers), SEE)
    for what in ("model", "KV", "compute"):
        sizes = [float(size) for size in re.findall(rf"{backend}\d+ +{what} buffer size = +([\d.]+) MiB", text)]
        report.check(f"memory taken there ({what}): {sizes} MiB", any(size > 0 for size in sizes), "none", SEE)
    check_metrics(report, kontor)


def on_processor(report, kontor):
    """Without a card the worker says so and computes nevertheless."""
    said = [line for line in kontor.process.lines() if "there is no graphics card" in line]
    report.check("the workers say that there is no card and that the processor computes", said, "no such line", SEE)
    check_metrics(report, kontor)


def figure(kontor, name, model):
    found = re.search(rf'^{name}{{[^}}]*model="{re.escape(model)}"[^}}]*}} (\d+)$', kontor.figures(), re.MULTILINE)
    return None if found is None else int(found[1])


def loaded(kontor, model):
    return figure(kontor, "kontor_worker_model_ready", model) == 1


def check_metrics(report, kontor):
    for model in (MODEL, VECTORS):
        taken = figure(kontor, "kontor_worker_model_memory_bytes", model)
        told = "not told" if taken is None else f"{taken >> 20} MiB"
        report.check(f"the metrics call {model} ready (its memory: {told})", loaded(kontor, model), "no such line", "server/src/http/metrics.rs")


def complete(kontor, question):
    body = {"model": MODEL, "messages": [{"role": "user", "content": question}], "max_tokens": 24, "temperature": 0}
    return ask(kontor.url("/v1/chat/completions"), body, {"Authorization": f"Bearer {kontor.key}"}, PATIENCE)


def check_answer(report, question, answer, expected=r"[A-Za-z]{2,}"):
    report.equal(f"{question!r} is answered with", answer.status, 200, answer.body.decode(errors="replace")[:500])
    told = answer.json()
    text, usage = told["choices"][0]["message"]["content"], told["usage"]
    report.check(f"  with sense: {text.strip()!r}", re.search(expected, text), f"nothing that matches {expected!r}", "either the driver computes wrongly or llama.cpp's programs for it do")
    prompt, completion, total = (usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
    report.check(f"  and its usage: {prompt} + {completion} = {total}", prompt > 0 and 0 < completion <= 24 and prompt + completion == total, str(usage))


def check_chat(report, kontor):
    check_answer(report, QUESTION, complete(kontor, QUESTION), ANSWER)
    report.head("Eight at a time")
    questions = [QUESTION, *(f"What is the capital city of {country} called?" for country in FURTHER)]
    with concurrent.futures.ThreadPoolExecutor(len(questions)) as pool:
        try:
            answers = list(pool.map(lambda question: complete(kontor, question), questions))
        except BaseException:
            # The pool's end waits for all answers: without Kontor there are none to wait for.
            kontor.process.stop()
            raise
    check_answer(report, QUESTION, answers[0], ANSWER)
    for question, answer in zip(questions[1:], answers[1:]):
        check_answer(report, question, answer)


def check_vectors(report, kontor):
    """What means the same lies nearer than what does not."""
    texts = ["query: the cat sleeps on the sofa", "query: die Katze schläft auf dem Sofa", "query: interest rates of central banks"]
    answer = ask(kontor.url("/v1/embeddings"), {"model": VECTORS, "input": texts}, {"Authorization": f"Bearer {kontor.key}"}, PATIENCE)
    report.equal("three texts are answered with", answer.status, 200, answer.body.decode(errors="replace")[:500])
    vectors = [one["embedding"] for one in answer.json()["data"]]
    report.equal("numbers in each vector", [len(vector) for vector in vectors], [DIMENSIONS] * 3)
    near, far = cosine(vectors[0], vectors[1]), cosine(vectors[0], vectors[2])
    report.check(f"a translation lies nearer ({near:.3f}) than another subject ({far:.3f})", near > far, f"{near} and {far}")


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other)) / (math.hypot(*one) * math.hypot(*other))


def trial(kind):
    def steps(report, program, folder):
        environment, found = {"vulkan": devices.vulkan, "cuda": devices.cuda, "no-card": lambda: ({}, "no card")}[kind]()
        print(f"\nDevices: {found}", flush=True)
        with started(program, folder, environment) as kontor:
            kontor.ready(PATIENCE)
            until("both models are loaded", PATIENCE, lambda: all(loaded(kontor, model) for model in (MODEL, VECTORS)), kontor.process)
            kontor.key = kontor.account("Trial", "Tries a graphics card")
            report.head("Where the layers are")
            if kind in ON_CARD:
                on_card(report, kontor, ON_CARD[kind])
            else:
                on_processor(report, kontor)
            report.head("An answer")
            check_chat(report, kontor)
            report.head("Vectors")
            check_vectors(report, kontor)
            kontor.process.stop()
            report.equal("Kontor ends well", kontor.process.child.returncode, 0, kontor.process.tail(5))
        print(f"\nProved: {proved(kind, found)}")

    return steps


def proved(kind, found):
    if kind not in ON_CARD:
        return "the program is compiled for cards and works without one. NOT that it computes on a card."
    return f"a worker with the feature `{kind}` computed two models on the device ({found})."


if __name__ == "__main__":
    run(f"try-gpu {sys.argv[1]}", trial(sys.argv[1]))
