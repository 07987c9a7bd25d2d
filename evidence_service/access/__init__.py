"""May this access go ahead? Pure judgement of one sign-in or launch."""
