"""Networks in Keras: custom layers, the encoders of branches, fusion, and whole networks from a configuration.

layers, normalization   custom layers
attention               transformer blocks
encoders, pretrained    features -> frames, one function per kind of encoder
fusion                  frames of several branches -> logits: pooling, early, attention and hybrid fusion
build                   configuration -> keras.Model
late                    probabilities of several networks -> those of an ensemble
"""
