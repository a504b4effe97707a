//! Whole clusters of the production group machine on virtual time: their world, its harm, and the
//! oracle that judges what they do.

mod oracle;
