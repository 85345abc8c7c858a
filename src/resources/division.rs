//! The division of the limit on open descriptors. Each kind of connection has a share of its own, so that clients that
//! only connect take no descriptor that the dial for a request, or a probe, needs.

/// The most descriptors that each kind of connection may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// The descriptors of clients, over all listeners.
    pub clients: usize,
    /// The descriptors of connections to upstreams, dials included.
    pub upstreams: usize,
    /// The descriptors of connections to each port for operators.
    pub operators: usize,
}

/// The limit that is divided, and the demands on it.
#[derive(Debug, Clone, Copy)]
pub struct DescriptorDemand {
    /// The limit of the process on open descriptors.
    pub limit: usize,
    /// The number of descriptors that belong to no connection: listening sockets, files, and those that the threads
    /// wait with.
    pub own: usize,
    /// The sum of `pool.maxConnections` over all upstreams.
    pub upstreams: usize,
    /// The number of ports for operators.
    pub ports: usize,
}

/// The number of connections that each port for operators may have, if the limit allows.
pub const OPERATORS: usize = 64;

impl Division {
    /// Divides the limit. Operators get at most a quarter of what the process itself leaves, upstreams less than half
    /// of the rest, and clients what is left then. Every share is at least 1.
    #[must_use]
    pub fn of(wanted: DescriptorDemand) -> Self {
        let left = wanted.limit.saturating_sub(wanted.own);
        let ports = wanted.ports.max(1);
        let operators = OPERATORS.min(left / 4 / ports).max(1);
        let left = left.saturating_sub(operators * wanted.ports);
        let upstreams = wanted.upstreams.min(left.saturating_sub(1) / 2).max(1);
        Self { clients: left.saturating_sub(upstreams).max(1), upstreams, operators }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divide(limit: usize, own: usize, upstreams: usize) -> Division {
        Division::of(DescriptorDemand { limit, own, upstreams, ports: 2 })
    }

    #[test]
    fn fault_34_with_descriptors_enough_upstreams_and_operators_have_all_that_they_may_want() {
        let plenty = divide(20_000, 50, 300);
        let Division { clients, upstreams, operators } = plenty;
        assert_eq!((upstreams, operators), (300, OPERATORS));
        assert_eq!(clients, 20_000 - 50 - 300 - 2 * OPERATORS);
    }

    #[test]
    fn fault_34_however_few_descriptors_there_are_clients_leave_some_for_dials_and_operators() {
        for limit in 70..2_000 {
            let Division { clients, upstreams, operators } = divide(limit, 50, 1_000);
            assert!(clients > 0 && upstreams > 0 && operators > 0, "{limit}");
            assert!(upstreams + 2 >= clients && clients > upstreams, "{limit}: {upstreams}");
            assert_eq!(50 + clients + upstreams + 2 * operators, limit, "no more than there are");
        }
    }

    #[test]
    fn fault_34_with_fewer_descriptors_than_the_process_itself_has_nobody_is_shut_out() {
        assert_eq!(divide(40, 50, 9), Division { clients: 1, upstreams: 1, operators: 1 });
    }
}
