"""The training loop that `finetune` and `distill` share."""
