//! What is found and what is not, kind by kind. Every number and name is made up or the one that its standard gives as an
//! example.

use super::scan;
use crate::{
    policy::{Entities, Entity},
    view::{Hit, View},
};

fn hits(view: View<'_>) -> (Vec<Hit>, usize) {
    let mut hits = Vec::new();
    let undecided = scan(view, Entities::of(&[]), &mut hits);
    hits.sort_by_key(|hit| hit.range.start);
    (hits, undecided)
}

fn found(text: &str) -> Vec<(Entity, &str)> {
    hits(View::whole(text)).0.into_iter().filter_map(|hit| Some((hit.what.entity()?, &text[hit.range]))).collect()
}

/// Texts with the only thing that is to be found in them.
#[track_caller]
fn finds(entity: Entity, texts: &[(&str, &str)]) {
    let wrong: Vec<_> = texts.iter().map(|(text, part)| (found(text), *part)).filter(|(found, part)| *found != [(entity, *part)]).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} wrong: {wrong:#?}. If you are here because this failed: personal data goes out unseen.",
        wrong.len(),
        texts.len()
    );
}

#[track_caller]
fn finds_nothing(texts: &[&str]) {
    let wrong: Vec<_> = texts.iter().map(|text| (found(text), *text)).filter(|(found, _)| !found.is_empty()).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} wrong: {wrong:#?}. If you are here because this failed: harmless texts are changed.",
        wrong.len(),
        texts.len()
    );
}

#[test]
fn account_numbers() {
    finds(
        Entity::Iban,
        &[
            ("Bitte auf DE89370400440532013000 überweisen.", "DE89370400440532013000"),
            ("IBAN: DE89 3704 0044 0532 0130 00, BIC folgt", "DE89 3704 0044 0532 0130 00"),
            ("de89 3704 0044 0532 0130 00 bei der Bank", "de89 3704 0044 0532 0130 00"),
            ("DE02\u{a0}1203\u{a0}0000\u{a0}0000\u{a0}2020\u{a0}51", "DE02\u{a0}1203\u{a0}0000\u{a0}0000\u{a0}2020\u{a0}51"),
            ("Konto AT61 1904 3002 3457 3201 in Wien", "AT61 1904 3002 3457 3201"),
            ("to CH9300762011623852957 please", "CH9300762011623852957"),
            ("FR14 2004 1010 0505 0001 3M02 606", "FR14 2004 1010 0505 0001 3M02 606"),
            ("pay (GB29 NWBK 6016 1331 9268 19) today", "GB29 NWBK 6016 1331 9268 19"),
            ("NO93 8601 1117 947", "NO93 8601 1117 947"),
            ("Raum AB12 oder NL91ABNA0417164300", "NL91ABNA0417164300"),
        ],
    );
    finds_nothing(&[
        "DE88 3704 0044 0532 0130 00",
        "DE89 3704 0044 0532 0130 01",
        "DE8937040044053201300",
        "XX89370400440532013000",
        "Vorgang AB12 3456 7890 1234 5678",
        "xDE89370400440532013000",
        "SN12 ABCD EFGH IJKL MNOP QRST",
    ]);
}

#[test]
fn tax_identification_numbers() {
    finds(
        Entity::TaxId,
        &[
            ("Meine Steuer-ID ist 86095742719.", "86095742719"),
            ("IdNr. 47 036 892 816 (neu)", "47 036 892 816"),
            ("tax id: 65929970489", "65929970489"),
            ("Steueridentifikationsnummer 57549285017, danke", "57549285017"),
        ],
    );
    finds_nothing(&[
        "Meine Steuer-ID ist 86095742718.",
        "86095742719123",
        "Rechnung 12345678901",
        "Kundennummer 11111111111",
        "Bestellung 20240131001",
        "3.86095742719",
        "A86095742719",
        "Steuernummer 21/815/08150",
    ]);
}

#[test]
fn telephone_numbers() {
    finds(
        Entity::Phone,
        &[
            ("Rufen Sie +49 30 1234567 an.", "+49 30 1234567"),
            ("+49 (0)30 / 123 456-78", "+49 (0)30 / 123 456-78"),
            ("+4915112345678", "+4915112345678"),
            ("0049 89 123456", "0049 89 123456"),
            ("Büro: 030 1234567, ab 8 Uhr", "030 1234567"),
            ("(030) 123 45 67", "(030) 123 45 67"),
            ("040/42828-0", "040/42828-0"),
            ("0351 488-1234", "0351 488-1234"),
            ("mobil 0176 12345678", "0176 12345678"),
            ("01761234567", "01761234567"),
            ("Tel.: 0301234567", "0301234567"),
            ("Telefon 030 12345", "030 12345"),
            ("call +1 (555) 234-5678 now", "+1 (555) 234-5678"),
            ("(555) 234-5678", "(555) 234-5678"),
            ("my number is 555-234-5678.", "555-234-5678"),
            ("+44 20 7946 0958", "+44 20 7946 0958"),
            ("+43 1 58858-0", "+43 1 58858-0"),
            ("ring 020 7946 0958 please", "020 7946 0958"),
        ],
    );
    finds_nothing(&[
        "am 01.02.2024 um 08:30 Uhr",
        "2024-01-31",
        "05 06 2024",
        "ISBN 978-3-16-148410-0",
        "ISBN 0-306-40615-2",
        "Version 0.12.345.6789",
        "Rechnung 0012345678",
        "Rechnung 0815/2024",
        "Konto 0532013000",
        "Az. 0345/12345/24",
        "+50.000.000 Euro",
        "192.168.100.200",
        "01067 Dresden, 04109 Leipzig",
        "zwischen 1990 und 2024",
        "555-123-4567",
        "+1 555 123",
        "0123456789",
        "Paragraph 1234-5678",
        "00000000000",
    ]);
}

#[test]
fn e_mail_addresses() {
    finds(
        Entity::Email,
        &[
            ("Schreiben Sie an vorname.nachname@stadt-musterstadt.de!", "vorname.nachname@stadt-musterstadt.de"),
            ("x+tag@mail.example.co.uk", "x+tag@mail.example.co.uk"),
            ("<info@example.org>", "info@example.org"),
            ("mailto:info@example.org?subject=x", "info@example.org"),
            ("jürgen@straße.de", "jürgen@straße.de"),
            ("info[at]example.org", "info[at]example.org"),
            ("info(at)example.org", "info(at)example.org"),
            ("Fragen an amt@example.de.", "amt@example.de"),
            ("UPPER@EXAMPLE.ORG", "UPPER@EXAMPLE.ORG"),
        ],
    );
    finds_nothing(&[
        "user@localhost",
        "@example.org",
        "icon@2x.png",
        "pkg@1.2.3",
        "git@github.com:owner/repo",
        "https://user:pass@example.org/x",
        "a @ b.de",
        "price @ 3.50",
        "info at example.org",
    ]);
}

#[test]
fn card_numbers() {
    finds(
        Entity::CreditCard,
        &[
            ("Karte 4111 1111 1111 1111, gültig bis 12/27", "4111 1111 1111 1111"),
            ("5555555555554444", "5555555555554444"),
            ("Amex 3782-822463-10005", "3782-822463-10005"),
            ("card 6011111111111117.", "6011111111111117"),
            ("3056 930902 5904", "3056 930902 5904"),
            ("2223003122003222", "2223003122003222"),
            ("4111 1111 1111 1111 123", "4111 1111 1111 1111"),
        ],
    );
    finds_nothing(&[
        "4111 1111 1111 1112",
        "9999999999999995",
        "41111111111111111111111",
        "0.4111111111111111",
        "ISBN 9783161484100",
        "order 1234567890123456",
        "550e8400-e29b-41d4-a716-446655440000",
        "20240131123456789",
    ]);
}

#[test]
fn names_of_people() {
    finds(
        Entity::Person,
        &[
            ("Sehr geehrte Frau Müller,", "Müller"),
            ("Herr Dr. Hans-Peter von der Leyen kommt", "Hans-Peter von der Leyen"),
            ("Herrn Prof. Dr. med. Weber", "Weber"),
            ("Frau Bürgermeisterin Schmidt eröffnet", "Schmidt"),
            ("Frau Kaltrina Berisha wohnt hier", "Kaltrina Berisha"),
            ("Frau Müller Geld geben", "Müller"),
            ("Herr J. Winter ruft an", "J. Winter"),
            ("Herr Richter hat geklagt", "Richter"),
            ("Familie Yılmaz zieht um", "Yılmaz"),
            ("gez. Schulze", "Schulze"),
            ("mein Name ist Kaltrina Berisha und ich", "Kaltrina Berisha"),
            ("Ich heiße Nguyen.", "Nguyen"),
            ("ich bin Peter und brauche", "Peter"),
            ("Hallo Anna, wie geht es", "Anna"),
            ("Nachname: Öztürk", "Öztürk"),
            ("Antragstellerin: Kaltrina Berisha", "Kaltrina Berisha"),
            ("Mit freundlichen Grüßen\n\nKaltrina Berisha", "Kaltrina Berisha"),
            ("Gestern hat Thomas Müller angerufen.", "Thomas Müller"),
            ("der Antrag von Max Mustermann", "Max Mustermann"),
            ("Erika Mustermann, geboren in", "Erika Mustermann"),
            ("Jörg Weber-Schmidt", "Jörg Weber-Schmidt"),
            ("Mr. Smith's house", "Smith"),
            ("Mrs Jones called", "Jones"),
            ("my name is John Smith.", "John Smith"),
            ("I'm Sarah and", "Sarah"),
            ("I am Michael Brown", "Michael Brown"),
            ("Dear Elizabeth,", "Elizabeth"),
            ("asked John F. Kennedy about", "John F. Kennedy"),
            ("First name: Grace", "Grace"),
            ("Kind regards,\nKaltrina Berisha", "Kaltrina Berisha"),
        ],
    );
    finds_nothing(&[
        "Der Antrag auf Wohngeld liegt der Behörde seit Montag vor.",
        "Die Bürgerinnen und Bürger der Stadt Musterstadt",
        "Sehr geehrte Damen und Herren,",
        "Herr Bürgermeister, Frau Ministerin!",
        "Frau und Mann sind gleich",
        "Herr der Ringe",
        "Karl Marx Straße und Konrad-Adenauer-Platz",
        "Dann bekam Peter Angst vor dem Hund.",
        "Anna Geburtstag feiern",
        "Bitte geben Sie Maria Unterlagen mit.",
        "Peter zu Hause besuchen",
        "Ich bin Student an der Universität.",
        "Ich bin Deutsche.",
        "Hallo Welt, hallo Team",
        "Dear Customer, dear Sir or Madam",
        "Mein Name ist Programm.",
        "Name: Bescheid",
        "Im Ernst Leute, im August Ferien",
        "500 Mark Strafe, Will Power, Grace Period",
        "I am Happy to help",
        "The Ministry of the Interior and Community",
        "Mit freundlichen Grüßen\nIhre Stadtverwaltung",
        "Mein Auto ist kaputt, mein Haus auch.",
        "What is the name of the president?",
        "Amt für Soziales, Abteilung Jugend und Familie",
        "Die Kindertagesstätte Sonnenschein in der Grünen Straße",
    ]);
}

#[test]
fn prose_is_left_alone() {
    let prose = "Nach § 35a Satz 1 des Verwaltungsverfahrensgesetzes (VwVfG) kann ein Verwaltungsakt vollständig durch \
        automatische Einrichtungen erlassen werden, sofern dies durch Rechtsvorschrift zugelassen ist. Die Bundesregierung hat \
        am 12.03.2021 in der Drucksache 19/27441 auf Seite 17 von 120 erklärt, dass 83.155.031 Menschen betroffen sind. Das \
        Bundesverfassungsgericht (Beschluss vom 15. Dezember 1983, Az. 1 BvR 209/83) und der Europäische Gerichtshof sehen das \
        ähnlich; Artikel 8 Absatz 2 der Grundrechtecharta gilt. Die Version 2.14.1 der Software kostet 1.299,00 EUR und läuft \
        ab Ubuntu 22.04. The Federal Office for Information Security published its Annual Report on 2023-11-02, see page 42.";
    finds_nothing(&[prose]);
}

#[test]
fn a_digit_belongs_to_one_number_only() {
    let text = "DE89 3704 0044 0532 0130 00 und 4111 1111 1111 1111, 030 1234567, 86095742719";
    let kinds: Vec<Entity> = found(text).into_iter().map(|(entity, _)| entity).collect();
    assert_eq!(kinds, [Entity::Iban, Entity::CreditCard, Entity::Phone, Entity::TaxId]);
    let mut only_phones = Vec::new();
    scan(View::whole("DE89 3704 0044 0532 0130 00"), Entities::of(&[Entity::Phone]), &mut only_phones);
    assert_eq!(only_phones, [], "the end of an account number is no telephone number");
}

#[test]
fn little_is_kept_back() {
    for (text, kept) in [
        ("Der Antrag", "Antrag"),
        ("Der Antrag ", ""),
        ("Frau ", ""),
        ("Frau Mül", "Mül"),
        ("Frau Müller ", "Müller "),
        ("Frau Müller kommt ", ""),
        ("am 12. ", ""),
        ("am 030 12", "030 12"),
        ("Konto DE89 37", "DE89 37"),
        ("a@b.de", "a@b.de"),
        ("a@b.de, ", ""),
    ] {
        let (_, undecided) = hits(View { closes: false, ..View::whole(text) });
        assert_eq!(&text[undecided..], kept, "{text:?}");
    }
}

#[test]
fn what_is_decided_stays_so() {
    let text = "Frau Dr. Weber, 030 1234567, DE89 3704 0044 0532 0130 00 bei x@y.de; Anna Schmidt von 4111 1111 1111 1111 an";
    let (all, _) = hits(View::whole(text));
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        let (part, undecided) = hits(View { closes: false, ..View::whole(&text[..end]) });
        let decided = |hits: &[Hit]| hits.iter().filter(|hit| hit.range.start < undecided).cloned().collect::<Vec<_>>();
        assert_eq!(decided(&part), decided(&all), "{:?}", &text[..end]);
    }
}
