"""Training on several devices, of one machine or of several, by TensorFlow's own strategies."""
