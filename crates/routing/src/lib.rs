//! From an address to its next hop, and who may relay where. Touches no world.
