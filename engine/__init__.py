"""The training engine. Importing it imports no torch; it only makes a later `import torchvision` safe."""

from engine.compat import prepare

prepare()
