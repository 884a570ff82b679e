//! What a relay writes into mail: the Received field, the hop count, delivery status notifications. Touches no world.
