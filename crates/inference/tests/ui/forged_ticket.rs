//! A ticket cannot be made but by the meter.

use contract::ids::UsageId;
use inference::meter::Ticket;

fn forge(id: UsageId) -> Ticket {
    Ticket { id }
}

fn main() {}
