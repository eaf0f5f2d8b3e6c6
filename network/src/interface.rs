//! The interfaces of this machine, and what each of them leads to.

use std::net::IpAddr;

/// An address, and the interface that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    /// The name that the system shows.
    pub(super) name: String,
    pub(super) ip: IpAddr,
    pub(super) medium: Medium,
    /// Whether a network is there: a cable is plugged in, a Wi-Fi is joined.
    pub(super) is_connected: bool,
}

/// What an interface leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    Wifi,
    Cable,
    /// A network whose kind the system does not tell.
    Network,
    /// A bridge or a link without a device, which usually leads to programs of this machine.
    Virtual,
    /// A tunnel to the machines on the same VPN.
    Vpn,
    /// The containers and virtual machines of this machine, or this machine itself.
    Guests,
}

/// Beginnings of the names that programs for containers and virtual machines give their interfaces.
const GUESTS: [&str; 23] = [
    "anbox", "cali", "cbr", "cilium", "cni", "docker", "flannel", "incusbr", "kube", "lxc",
    "lxdbr", "mpqemubr", "nerdctl", "ovs-", "podman", "vboxnet", "vif", "virbr", "vmenet", "vmnet",
    "vnet", "waydroid", "weave",
];
/// Parts of such names on Windows.
const GUESTS_ON_WINDOWS: [&str; 6] = [
    "(nat)",
    "(wsl",
    "default switch",
    "docker",
    "virtualbox",
    "vmware",
];
/// Beginnings of the names of tunnels.
const TUNNELS: [&str; 11] = [
    "gpd",
    "ham",
    "ipsec",
    "nebula",
    "tailscale",
    "tap",
    "tun",
    "utun",
    "wg",
    "wt",
    "zt",
];
/// Parts of the names of tunnels.
const VPNS: [&str; 10] = [
    "hamachi",
    "mullvad",
    "nordlynx",
    "openvpn",
    "proton",
    "tailscale",
    "vpn",
    "warp",
    "wireguard",
    "zerotier",
];

/// Returns every address of this machine but those of interfaces that are switched off.
pub(super) fn list() -> Vec<Interface> {
    let addresses = if_addrs::get_if_addrs().unwrap_or_default().into_iter();
    let interface = |address: if_addrs::Interface| {
        // An IPv4 address may have a label after the interface's name.
        let device = address.name.split(':').next().unwrap_or_default();
        let hints = Hints::of(device);
        let is_connected = address.is_oper_up();
        let ip = address.ip();
        let medium = match ip.is_loopback() {
            true => Medium::Guests,
            false => medium(device, address.is_p2p(), &hints),
        };
        (is_connected || hints.is_switched_on).then(|| Interface {
            name: device.to_owned(),
            ip,
            medium,
            // A tunnel is there as long as its interface is.
            is_connected: is_connected || medium == Medium::Vpn,
        })
    };
    addresses.filter_map(interface).collect()
}

/// What the system tells about an interface besides its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Hints {
    is_switched_on: bool,
    is_wireless: bool,
    /// Whether the frames of the interface come from a program.
    is_tap: bool,
    /// For a bridge: whether it leads to a device of this machine.
    bridge_has_device: Option<bool>,
    has_device: bool,
}

#[cfg(target_os = "linux")]
impl Hints {
    /// Reads the kernel's files about an interface.
    fn of(name: &str) -> Self {
        let interfaces = std::path::Path::new("/sys/class/net");
        let own = interfaces.join(name);
        let has_device = |folder: &std::path::Path| folder.join("device").exists();
        let flags = std::fs::read_to_string(own.join("flags")).unwrap_or_default();
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16);
        let members = std::fs::read_dir(own.join("brif")).ok();
        let bridge_has_device = members.map(|mut members| {
            members.any(|member| {
                member.is_ok_and(|member| has_device(&interfaces.join(member.file_name())))
            })
        });
        Self {
            is_switched_on: flags.is_ok_and(|flags| flags & 1 != 0),
            is_wireless: own.join("wireless").exists() || own.join("phy80211").exists(),
            is_tap: own.join("tun_flags").exists(),
            bridge_has_device,
            has_device: has_device(&own),
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Hints {
    fn of(_: &str) -> Self {
        Self::default()
    }
}

/// Returns what an interface leads to.
fn medium(name: &str, is_point_to_point: bool, hints: &Hints) -> Medium {
    let name = name.to_lowercase();
    let begins = |beginnings: &[&str]| beginnings.iter().any(|part| name.starts_with(part));
    let contains = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    // Docker's bridges have twelve digits. Others begin alike, as OpenWrt's br-lan does.
    let is_digits = |rest: &str| rest.len() == 12 && rest.bytes().all(|it| it.is_ascii_hexdigit());
    let is_dockers = name.strip_prefix("br-").is_some_and(is_digits);
    if begins(&GUESTS) || contains(&GUESTS_ON_WINDOWS) || is_dockers {
        Medium::Guests
    } else if hints.is_wireless || begins(&["wl"]) || contains(&["wi-fi", "wifi", "wireless"]) {
        Medium::Wifi
    } else if is_point_to_point || begins(&TUNNELS) || contains(&VPNS) {
        Medium::Vpn
    } else if hints.bridge_has_device == Some(false) || begins(&["veth"]) {
        Medium::Virtual
    } else if is_cable(&name) || hints.has_device || hints.bridge_has_device == Some(true) {
        Medium::Cable
    } else if hints.is_tap {
        Medium::Vpn
    } else {
        Medium::Network
    }
}

/// Returns whether a name is one of an interface for a cable. On macOS such a name may be a Wi-Fi's.
fn is_cable(name: &str) -> bool {
    let is_named_so = ["bond", "en", "eth"].iter().any(|it| name.starts_with(it));
    is_named_so && !(cfg!(target_os = "macos") && name.starts_with("en"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_say_what_they_lead_to() {
        let hints = Hints::default();
        for (names, expected) in [
            (&["wlan0", "wlp0s20f3", "Wi-Fi", "WLAN"][..], Medium::Wifi),
            (&["eth0", "enp3s0", "Ethernet 2", "bond0"], Medium::Cable),
            (
                &["wg0", "tun0", "utun4", "tailscale0", "ztabc", "ProtonVPN"],
                Medium::Vpn,
            ),
            (
                &[
                    "docker0",
                    "br-0123456789ab",
                    "virbr0",
                    "vboxnet0",
                    "vEthernet (WSL)",
                    "vEthernet (Default Switch)",
                ],
                Medium::Guests,
            ),
            (&["veth12ab"], Medium::Virtual),
            (&["hot0", "usb0", "bridge100", "Bluetooth"], Medium::Network),
        ] {
            for name in names {
                assert_eq!(medium(name, false, &hints), expected, "{name}");
            }
        }
        assert_eq!(medium("ppp0", true, &hints), Medium::Vpn);
    }

    #[test]
    fn devices_behind_an_interface_count_as_well() {
        let none = Hints::default();
        let wireless = Hints {
            is_wireless: true,
            ..none
        };
        assert_eq!(medium("ap0", false, &wireless), Medium::Wifi);
        let device = Hints {
            has_device: true,
            ..none
        };
        assert_eq!(medium("usb0", false, &device), Medium::Cable);
        let bridge = |has_device| Hints {
            bridge_has_device: Some(has_device),
            ..none
        };
        assert_eq!(medium("vmbr0", false, &bridge(true)), Medium::Cable);
        assert_eq!(medium("br-lan", false, &bridge(true)), Medium::Cable);
        assert_eq!(medium("br-home", false, &bridge(true)), Medium::Cable);
        assert_eq!(medium("br0", false, &bridge(false)), Medium::Virtual);
        assert_eq!(medium("docker0", false, &bridge(true)), Medium::Guests);
        let tap = Hints {
            is_tap: true,
            ..none
        };
        assert_eq!(medium("client", false, &tap), Medium::Vpn);
        assert_eq!(medium("eth0", false, &tap), Medium::Cable);
    }

    #[test]
    fn the_loopback_address_is_listed_for_nobody_else() {
        let listed = list();
        let here = listed.iter().filter(|it| it.ip.is_loopback());
        assert!(here.clone().count() > 0, "{listed:?}");
        assert!(here.map(|it| it.medium).all(|it| it == Medium::Guests));
    }
}
