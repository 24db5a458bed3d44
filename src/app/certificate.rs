//! When a certificate ends: the one field of it that nobody else tells us.

use crate::base::clock::Timestamp;

/// Tags of DER, as far as they stand on the way to the field.
mod tag {
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const UTC_TIME: u8 = 0x17;
    pub(super) const GENERALIZED_TIME: u8 = 0x18;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const VERSION: u8 = 0xa0;
}

/// The moment after which a certificate (X.509 in DER) is not valid any more; none if it can't be read.
#[must_use]
pub fn not_after(der: &[u8]) -> Option<Timestamp> {
    let certificate = expect(&mut { der }, tag::SEQUENCE)?;
    let mut signed = expect(&mut { certificate }, tag::SEQUENCE)?;
    if signed.first() == Some(&tag::VERSION) {
        expect(&mut signed, tag::VERSION)?;
    }
    expect(&mut signed, tag::INTEGER)?; // the serial number
    expect(&mut signed, tag::SEQUENCE)?; // how it is signed
    expect(&mut signed, tag::SEQUENCE)?; // by whom
    let mut validity = expect(&mut signed, tag::SEQUENCE)?;
    next(&mut validity)?; // not before
    let (kind, text) = next(&mut validity)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match kind {
        // two digits of a year: 1950 to 2049
        tag::UTC_TIME if text.is_ascii() && text.len() == 12 => {
            format!("{}{text}", if &text[..2] < "50" { "20" } else { "19" })
        }
        tag::GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let at = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().into())
}

fn expect<'a>(from: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    next(from).filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
}

/// Takes the next value: its tag and its content.
fn next<'a>(from: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = from.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(bytes, _)| bytes.len() <= 4)?;
        rest = after;
        bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
    };
    let (content, after) = rest.split_at_checked(length)?;
    *from = after;
    Some((tag, content))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let pem = include_bytes!("../../tests/fixtures/keys/self-signed.crt");
        let der = CertificateDer::from_pem_slice(pem).unwrap();
        assert_eq!(not_after(&der).unwrap().to_string(), "2126-10-28T02:07:06.000Z");
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let pem = include_bytes!("../../tests/fixtures/keys/self-signed.crt");
        let der = CertificateDer::from_pem_slice(pem).unwrap();
        for cut in 0..120 {
            assert_eq!(not_after(&der[..cut]), None, "{cut}");
        }
        for junk in [&[][..], &[0x30], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0x89], &[0xff; 64]] {
            assert_eq!(not_after(junk), None);
        }
    }
}
