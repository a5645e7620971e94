"""The websocket streams that the node serves, and the bounds on connections of its clients."""
