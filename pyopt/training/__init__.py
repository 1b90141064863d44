"""What a training loop needs besides an optimizer: early stopping, averages, loss scaling."""
