"""Order days as scenarios of the simulator: the sandbox's world handed to dispatch's engine."""
