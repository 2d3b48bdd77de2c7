"""Models in this process, through transformers: batching, decoding, label and sequence scoring.

One request's way: `engine` turns it into tokens (`chat`) and queues it (`queue`); a `worker` thread
takes what is pending, reads prompts (`forward`, `measure`) and decodes rows (`decode`, `rows`,
`draw`). Import `rlaif.engines.open_engine` instead of these modules: they import torch.
"""
