"""One side of ``training.py``: an epoch of TRL's trainer with PEFT on the rows from stdin, on the CPU, in float32.

Run by the Python of an environment with torch, transformers, datasets, TRL and PEFT. Prints one JSON object.
"""

import importlib
import json
import resource
import sys
import tempfile
import time
from typing import Any


def main() -> None:
    job = json.load(sys.stdin)
    names = ("torch", "datasets", "peft", "tokenizers", "transformers", "trl")
    torch, datasets, peft, tokenizers, transformers, trl = map(importlib.import_module, names)

    torch.manual_seed(0)
    sizes = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    config = transformers.LlamaConfig(**{name: job["config"][name] for name in (*sizes, "rms_norm_eps", "vocab_size")})
    config.tie_word_embeddings, config.rope_theta = True, job["config"]["rope_theta"]
    projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = peft.LoraConfig(r=job["rank"], lora_alpha=job["alpha"], target_modules=projections, task_type="CAUSAL_LM")
    model = peft.get_peft_model(transformers.LlamaForCausalLM(config), lora)
    rows = [{"input_ids": tokens, "completion_mask": [int(place >= prompt) for place in range(len(tokens))]}
            for tokens, prompt in job["rows"]]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        settings = trl.SFTConfig(
            output_dir=folder, num_train_epochs=2, per_device_train_batch_size=job["batch"], use_cpu=True,
            gradient_accumulation_steps=job["accumulation"], gradient_checkpointing=False, max_length=None,
            completion_only_loss=True, report_to=[], save_strategy="no", logging_strategy="epoch",
            bf16=False, fp16=False,
        )  # fmt: skip
        times: list[tuple[float, float]] = []

        words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")
        data = datasets.Dataset.from_list(rows)
        trainer = trl.SFTTrainer(model=model, args=settings, train_dataset=data, processing_class=tokenizer)
        compute_loss = trainer.compute_loss

        def timed(*values: Any, **options: Any) -> Any:
            times.append((time.perf_counter(), time.process_time()))
            return compute_loss(*values, **options)

        trainer.compute_loss = timed
        trainer.train()
        ended = (time.perf_counter(), time.process_time())
    half = times[len(times) // 2]
    print(json.dumps({
        "seconds": ended[0] - half[0],
        "cpu_seconds": ended[1] - half[1],
        "first_seconds": half[0] - times[0][0],
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "loss": trainer.state.log_history[-2]["loss"],
        "array_masks": 0.0,
        "compilations": 0.0,
        "trainable": float(sum(value.numel() for value in model.parameters() if value.requires_grad)),
    }))  # fmt: skip


main()
