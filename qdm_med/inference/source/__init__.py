"""Facts that a source slice shows of itself: where the patient is, how much noise it has, how far its points spread."""
