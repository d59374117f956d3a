"""Training an embedder: masked language model, contrastive pretraining, Matryoshka finetuning."""
