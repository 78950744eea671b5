//! What a class asks of the vendors that keep its copies.
