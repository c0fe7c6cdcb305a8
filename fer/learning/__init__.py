"""LEARN: data sets, architectures, training, evaluation, retraining."""
