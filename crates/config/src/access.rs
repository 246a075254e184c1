//! Who may reach the gateway, and which of its routes.

use std::net::IpAddr;

/// `general_settings.allowed_ips`, `use_x_forwarded_for`, `allowed_routes`, `admin_only_routes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Empty: everybody.
    pub addresses: Vec<Network>,
    /// Who a client is says the header `x-forwarded-for`.
    pub forwarded: bool,
    /// Empty: every route.
    pub routes: Vec<String>,
    /// For the master key only.
    pub admin_routes: Vec<String>,
}

/// An address, or all that begin like it: `10.1.2.3`, `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// Bits that count.
    bits: u8,
}

impl Network {
    /// From its text; `None` where it is neither.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    /// Whether an address is one of these. One of IPv4 inside of IPv6 counts as itself.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differs = u32::from(own) ^ u32::from(other);
                differs
                    .checked_shr(32 - u32::from(self.bits.min(32)))
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differs = u128::from(own) ^ u128::from(other);
                differs.checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let most = if self.address.is_ipv4() { 32 } else { 128 };
        if self.bits == most {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.bits)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_begins_like_it() {
        for (network, address, holds) in [
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.0.0.0/8", "10.200.3.4", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("10.1.2.3", "::ffff:10.1.2.3", true),
            ("2001:db8::/32", "2001:db8:1::7", true),
            ("2001:db8::/32", "2001:db9::7", false),
            ("::/0", "10.1.2.3", false),
        ] {
            let found = Network::of(network).unwrap();
            assert_eq!(
                found.holds(address.parse().unwrap()),
                holds,
                "{network} {address}"
            );
        }
        for wrong in [
            "",
            "localhost",
            "10.0.0.0/33",
            "10.0.0.0/x",
            "::/129",
            "10.0.0",
        ] {
            assert_eq!(Network::of(wrong), None, "{wrong}");
        }
    }
}
