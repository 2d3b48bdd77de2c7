"""distilabel on the same work: two responses a prompt, one judgment of the two. FILE URL SLOTS.

Its replicas and batches are set so that about SLOTS requests are in flight: a batch waits for its
slowest row, so several batches of a step have to run side by side.
"""

import json
import sys
import time
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

JUDGE = "{{ instruction }}{% for one in generation %}\n\nResponse: {{ one }}{% endfor %}\n\nWhich?"


def main(prompts: Path, url: str, slots: int) -> None:
    rows = [{"instruction": json.loads(line)["prompt"]} for line in prompts.open()]
    with Pipeline(name="bench") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=slots)
        sample = TextGeneration(
            llm=model(url, 100),
            num_generations=2,
            group_generations=True,
            input_batch_size=slots,
            output_mappings={"model_name": "student"},
        )
        judge = TextGeneration(
            llm=model(url, 1),
            columns=["instruction", "generation"],
            template=JUDGE,
            input_batch_size=slots,
            output_mappings={"generation": "verdict"},
        )
        load >> sample >> judge
    begun = time.monotonic()
    made = pipeline.run(use_cache=False)["default"]["train"]
    seconds = time.monotonic() - begun
    pairs = sum(row["verdict"] is not None for row in made)
    print("\n" + json.dumps({"seconds": seconds, "pairs": pairs}))


def model(url: str, tokens: int) -> OpenAILLM:
    return OpenAILLM(
        model="mock",
        base_url=f"{url}/v1",
        api_key="EMPTY",
        generation_kwargs={"max_new_tokens": tokens},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
