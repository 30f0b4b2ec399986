"""The note behind "Use a sample". Invented: no such person, number or address exists."""

SAMPLE_NOTE = """Discharge summary

Patient: Margaret O'Neill, MRN 4471-90823, born 03/14/1931 (95 years old).
Admitted to Fairhaven General Hospital on 10/03/2026 after a fall at home,
18 Linden Close, Fairhaven, NJ 07701. Seen by Dr. Samuel Okafor.

Her daughter, Ruth O'Neill, can be reached on (555) 014-2277 or at
ruth.oneill@example.org. Health plan number HPN-2210-884-17.

Findings: fractured left neck of femur, haemoglobin 9.8 g/dL. Started on
apixaban 2.5 mg twice a day. Mrs. O'Neill slept well and walks with a frame.
Review in the fracture clinic on 10/24/2026.

Dictated by S. Okafor, MD.
"""
