//! Defects of kernels that nobody can see while they do harm.

use rustix::system::uname;

/// The release of the running kernel, if it may corrupt trains.
///
/// From Linux 7.0 to 7.1.4 the kernel may write wrong headers where it leaves it to a network device to
/// cut a train (`UDP_SEGMENT`), if all messages of that are equally long, as most of ours are. Whether it
/// does depends on the device, and it reports nothing: what arrives is a small part. A shorter last message
/// would avoid that, but has brought devices to a stop. So trains are done without.
pub fn of_trains() -> Option<String> {
    let name = uname();
    let release = name.release().to_string_lossy();
    corrupts_trains(&release).then(|| release.into_owned())
}

fn corrupts_trains(release: &str) -> bool {
    ([7, 0, 0]..=[7, 1, 4]).contains(&version(release))
}

/// The three numbers that a release begins with, zeros where it has fewer.
fn version(release: &str) -> [u32; 3] {
    let mut version = [0; 3];
    for (number, text) in version.iter_mut().zip(release.split('.')) {
        let end = text.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(text.len());
        *number = text.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or_default();
    }
    version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_corrupts_trains_is_known_by_its_release() {
        for (release, corrupts) in [
            ("6.17.0-41-generic", false),
            ("6.19.14", false),
            ("7.0.0-14-generic", true),
            ("7.0-rc1", true),
            ("7.0.2-6-pve", true),
            ("7.1.4-arch1-1", true),
            ("7.1.5", false),
            ("7.1.10+deb14-amd64", false),
            ("7.2-rc1", false),
            ("17.0.1", false),
            ("", false),
        ] {
            assert_eq!(corrupts_trains(release), corrupts, "{release}");
        }
    }
}
