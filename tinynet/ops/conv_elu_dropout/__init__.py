"""conv_elu_dropout: a convolution, its bias, ELU and dropout in one pass over memory."""
