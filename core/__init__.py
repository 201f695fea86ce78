"""softtune's engine: data, model, training, generation, evaluation. Front ends see only `core.contract`."""
