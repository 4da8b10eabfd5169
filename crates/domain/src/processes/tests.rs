mod in_every_order;
mod in_random_order;
mod world;
