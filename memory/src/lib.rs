//! Memory regions, address spaces, flat views and guest RAM (softmmu/memory.c).
