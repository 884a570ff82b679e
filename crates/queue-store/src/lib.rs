//! The queue on disk: claim, fence, seal, group commit, recovery, retiring of segments.
