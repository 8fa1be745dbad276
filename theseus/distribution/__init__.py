"""Training on several devices, of one machine or several, with TensorFlow's own strategies."""
