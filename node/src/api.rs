pub mod extract;
pub mod idempotency;
pub mod page;
pub mod problem;
pub mod types;
