//! What a kernel of any version may say of links, addresses, routes, rules and packet filters.

pub fn run(bytes: &[u8]) {
    host::readers::netlink(bytes);
}

/// A message: length, kind, flags, sequence, port, payload.
fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = 16 + payload.len() as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend([0; 10]);
    message.extend(payload);
    message
}

fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = 4 + payload.len() as u16;
    let mut attribute = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    attribute.extend(payload);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

pub fn seeds() -> Vec<Vec<u8>> {
    let one = 1_u32.to_ne_bytes();
    let link = [
        &[0, 0, 1, 0][..],
        &one,
        &[0x43, 0, 0, 0, 0, 0, 0, 0],
        &attribute(3, b"wg0\0"),
        &attribute(4, &1420_u32.to_ne_bytes()),
        &attribute(18, &attribute(1, b"tun\0")),
    ]
    .concat();
    let address = [&[2, 24, 0, 0][..], &one, &attribute(1, &[10, 0, 0, 1])].concat();
    let route = [
        &[2, 8, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0][..],
        &attribute(1, &[10, 0, 0, 0]),
        &attribute(4, &one),
        &attribute(5, &[192, 0, 2, 1]),
        &attribute(15, &254_u32.to_ne_bytes()),
    ]
    .concat();
    let rule = [
        &[2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0][..],
        &attribute(15, &51_820_u32.to_ne_bytes()),
        &attribute(6, &32_765_u32.to_ne_bytes()),
        &attribute(10, &51_820_u32.to_ne_bytes()),
        &attribute(14, &0_u32.to_ne_bytes()),
    ]
    .concat();
    let table = [&[1, 0, 0, 0][..], &attribute(1, b"adit-wg0\0"), &attribute(2, &[0; 4])].concat();
    let seeds = [
        message(16, &link),
        message(20, &address),
        message(24, &route),
        message(32, &rule),
        message(0x0a00, &table),
        message(0x0a06, &table),
        message(2, &(-2_i32).to_ne_bytes()),
        message(3, &[0; 4]),
    ];
    let all = seeds.concat();
    seeds.into_iter().chain([all]).collect()
}
