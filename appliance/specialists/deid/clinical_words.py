"""Closed lists of clinical words a tagger takes for people or places: drugs, eponyms, abbreviations, form labels.

Casefolded, and read only by `plausibility.py`, which drops a NAME or an ORGANIZATION that consists of such words
and stands in no person's context. A word that is also a common given name ("Allegra", "Yasmin") is left out.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DRUGS = _words(
    """abilify acarbose accutane acetaminophen acetazolamide actos acyclovir adalimumab adderall adenosine advair
    advil albuterol aldactone alendronate aleve allopurinol alprazolam alteplase amantadine ambien amikacin amiodarone
    amitriptyline amlodipine amoxicillin amphetamine ampicillin anastrozole apixaban apresoline aricept aripiprazole
    arixtra aspirin atenolol ativan atorvastatin atropine atrovent augmentin avastin avelox azathioprine azithromycin
    aztreonam baclofen bactrim benadryl benazepril benicar bentyl benzonatate benztropine bevacizumab bicillin
    bisacodyl bisoprolol botox brilinta budesonide bumetanide bumex buprenorphine bupropion buspar buspirone
    butalbital bystolic calcitriol candesartan capecitabine captopril carafate carbamazepine carbidopa carboplatin
    cardizem carvedilol cefazolin cefdinir cefepime cefoxitin ceftazidime ceftriaxone cefuroxime celebrex celecoxib
    celexa cellcept cephalexin cetirizine chantix chlorhexidine chlorpromazine chlorthalidone cialis ciprofloxacin
    cipro cisplatin citalopram clarithromycin claritin clindamycin clobetasol clonazepam clonidine clopidogrel
    clozapine codeine cogentin colace colchicine combivent compazine coreg cosyntropin coumadin cozaar crestor
    cyclobenzaprine cyclophosphamide cyclosporine cymbalta dapagliflozin daptomycin decadron demerol depakote
    desmopressin dexamethasone dextrose diazepam diclofenac dicyclomine diflucan digoxin dilantin dilaudid diltiazem
    diovan diphenhydramine diprivan ditropan divalproex dobutamine docetaxel docusate donepezil dopamine doxazosin
    doxorubicin doxycycline dulcolax duloxetine duoneb effexor elavil eliquis empagliflozin enalapril enbrel
    enoxaparin entresto ephedrine epinephrine epipen epogen eplerenone ertapenem erythromycin escitalopram esmolol
    esomeprazole estradiol eszopiclone etanercept ethambutol etomidate etoposide exenatide ezetimibe famotidine
    farxiga febuxostat fentanyl filgrastim finasteride flagyl flecainide flexeril flomax flonase florinef flovent
    fluconazole fludrocortisone flumazenil fluoxetine fluticasone fluvoxamine fosamax fosphenytoin furosemide
    gabapentin ganciclovir gemcitabine gemfibrozil gentamicin geodon gleevec glimepiride glipizide glucagon glucophage
    glucotrol glyburide guaifenesin haldol haloperidol heparin herceptin humalog humira humulin hydralazine
    hydrochlorothiazide hydrocodone hydrocortisone hydromorphone hydroxychloroquine hydroxyzine hytrin ibuprofen
    imatinib imdur imipenem imipramine imitrex imodium imuran inderal indomethacin infliximab insulin ipratropium
    irbesartan isoniazid isosorbide ivermectin januvia jardiance kayexalate keflex kenalog keppra ketamine
    ketoconazole ketorolac keytruda klonopin labetalol lacosamide lactulose lamictal lamotrigine lanoxin lansoprazole
    lantus lasix latanoprost leflunomide letrozole leucovorin levaquin levemir levetiracetam levodopa levofloxacin
    levothyroxine lexapro lidocaine linezolid lipitor liraglutide lisinopril lithium lomotil loperamide lopressor
    loratadine lorazepam lortab losartan lovastatin lovenox lunesta lupron lyrica maalox macrobid macrodantin
    meclizine medrol melatonin meloxicam memantine meperidine meropenem mesalamine metamucil metformin methadone
    methimazole methocarbamol methotrexate methylphenidate methylprednisolone metoclopramide metolazone metoprolol
    metronidazole micardis micafungin midazolam midodrine milrinone minocycline minoxidil miralax mirapex mirtazapine
    misoprostol mobic modafinil montelukast morphine motrin mucinex mucomyst mycophenolate mylanta nadolol naloxone
    naltrexone naproxen namenda narcan naprosyn nasonex neosporin neostigmine neupogen neurontin nexium niacin
    nicardipine nicotine nifedipine nitrofurantoin nitroglycerin nitrostat nizoral norco norepinephrine nortriptyline
    norvasc novolin novolog nystatin octreotide olanzapine olmesartan omeprazole omnicef ondansetron oxaliplatin
    oxcarbazepine oxybutynin oxycodone oxycontin oxytocin ozempic paclitaxel pamelor pantoprazole paroxetine paxil
    penicillin pepcid percocet pembrolizumab phenergan phenobarbital phenylephrine phenytoin pioglitazone piperacillin
    pitocin plaquenil plavix potassium pradaxa pramipexole prasugrel pravachol pravastatin prazosin precedex
    prednisolone prednisone pregabalin premarin prevacid prilosec primidone prinivil procardia prochlorperazine
    prograf prolia promethazine propofol propranolol propylthiouracil protonix proventil prozac pulmicort pyridium
    pyridostigmine quetiapine quinapril ramipril ranitidine ranolazine reglan remeron remicade requip restoril retin-a
    revlimid rifampin rifaximin risedronate risperdal risperidone ritalin rituxan rituximab rivaroxaban rivastigmine
    robaxin robitussin rocephin rocuronium ropinirole rosuvastatin sacubitril seconal semaglutide senna senokot septra
    seroquel sertraline sildenafil simvastatin sinemet singulair sitagliptin solu-medrol soma spiriva spironolactone
    stelara strattera suboxone subutex succinylcholine sucralfate sulfasalazine sumatriptan symbicort synthroid
    tacrolimus tadalafil tamiflu tamoxifen tamsulosin tapazole tazocin tegretol telmisartan temazepam tenecteplase
    terazosin terbutaline teriparatide testosterone thiamine ticagrelor timolol tizanidine tobramycin topamax
    topiramate toprol toradol tramadol trastuzumab trazodone tretinoin triamcinolone tricor trileptal trulicity
    tylenol tyvaso ultram unasyn valacyclovir valium valproate valsartan valtrex vancomycin vasopressin vasotec
    vecuronium venlafaxine ventolin verapamil versed viagra vibramycin vicodin victoza vimpat vistaril vitamin
    voltaren vyvanse warfarin wellbutrin xanax xarelto xeloda xopenex yervoy zanaflex zantac zestril zetia zithromax
    zocor zofran zoledronic zolpidem zoloft zometa zonegran zosyn zovirax zyloprim zyprexa zyrtec zyvox allergies
    multivitamin saline marcaine bupivacaine ropivacaine xylocaine sevoflurane desflurane glycopyrrolate sugammadex
    vicryl monocryl prolene dermabond gelfoam surgicel betadine chloraprep duraprep steri-strips nylon levophed
    isuprel anectine zemuron ultiva sublimaze amidate"""
)

# Eponyms that hardly ever stand for a person in a note: dropped even without a noun behind them.
EPONYMS_ALONE = _words(
    """achilles addison adson alzheimer alzheimers apgar aschoff auer babinski baker balint bartholin barrett barretts
    bartter basedow bechterew behcet bence beckwith biot bishop blalock boerhaave bouchard bowen bright brockenbrough
    broca brudzinski brugada buerger burkitt caput charcot chagas cheyne chiari chvostek clostridium coombs crohn
    crohns cushing cushings dandy dequervain dequervains quervain dobhoff doppler dressler duchenne dupuytren
    dupuytrens ebstein ehlers danlos eisenmenger epley epstein barr ewing fallot fanconi felty finkelstein fontan
    foley froment gaucher ghon giemsa gilbert glasgow gleason goodpasture gottron graves guillain barre hallpike dix
    hartmann hashimoto hashimotos hawkins heberden heimlich hickman hinchey hirschsprung hodgkin hodgkins hoffmann
    holter homans horner huntington huntingtons jackson pratt kaposi karnofsky kawasaki kegel kehr kernig killip
    klinefelter koplik korsakoff kussmaul lachman lambert eaton lasegue leopold leriche levine lewy lisfranc ludwig
    lyme mallory weiss marfan mcburney mcmurray meckel meniere menieres merkel mobitz moh mohs murphy nissen nikolsky
    ogilvie ommaya osgood schlatter paget pagets pap papanicolaou parkinson parkinsons penrose perthes peyronie
    peyronies pfannenstiel phalen port-a-cath pott prader willi prinzmetal purkinje quincke ramsay raynaud raynauds
    reiter reye rinne romberg roux rovsing schatzki schilling schirmer schonlein henoch sezary shiley sjogren sjogrens
    snellen spurling stevens still stokes sydenham swan ganz takayasu tay-sachs tenckhoff tietze tinel tinels thurner
    todd tourette tourettes trendelenburg trousseau turner valsalva virchow waldenstrom weber wegener wegeners
    wenckebach wernicke whipple willebrand wilms wilson wolff parkinson-white yankauer zenker zollinger ellison
    kirschner steinmann bovie balfour bookwalter weitlaner kocher kelly debakey metzenbaum mayo allis babcock lembert
    gerota glisson treitz hesselbach scarpa cooper camper hasson veress blake jp hemovac bair hugger lithotomy
    mallampati allen braden morse fugl ashworth"""
)
# Of these, the ones that are everyday surnames need the noun behind them ("Murphy sign", "Wilson disease").
EPONYMS_WITH_NOUN = _words(
    """addison allen baker barr bishop blake bright bowen braden camper caput cooper dandy eaton ellison ewing gilbert
    hawkins hoffmann horner hugger jackson kelly lambert leopold levine ludwig mallory mayo merkel morse murphy paget
    pratt ramsay schilling shiley stevens still swan todd turner weber weiss willi wilson wolff allis ashworth jp
    blalock barre epstein glasgow huntington addisons moh gleason reiter stokes barrett osgood graves hartmann
    kawasaki hashimoto finkelstein dix dressler babcock balfour coombs ogilvie penrose whipple kirschner lachman kehr
    homans buerger felty heimlich hasson wells"""
)
# Nouns that make the word before them an eponym whoever bore it, and some that do so only for a known one.
EPONYM_NOUNS = _words(
    """disease diseases syndrome sign signs phenomenon catheter lymphoma sarcoma palsy maneuver manoeuvre stain
    thyroiditis ophthalmopathy ataxia chorea reflex contracture esophagus tetralogy classification habitus reservoir
    fundoplication tumor tumour encephalopathy dementia cardiomyopathy nephropathy granulomatosis respirations
    criteria virus neuropathy malformation anomaly deformity triad"""
)
EPONYM_NOUNS_WEAK = _words(
    """stage grade score scale test tests index drain tube clamp retractor forceps line position point incision
    procedure operation repair breathing body bodies cells cell node nodes view window bag monitor smear fracture
    block flap graft hernia diverticulum duct gland ulcer canal space fascia pouch limb loop airway hugger wire wires
    pin pins suture needle trocar port cyst nodules law law's formula rating status placement output urine draining
    intact removed inserted"""
)

# Written in capitals (or with one inside: "AuD"); a word of ordinary letters is not meant.
ABBREVIATIONS = _words(
    """abd abg abi acdf ace acl acls acs adhd adl adls afib aid aids aki aka alt ama ami ana aortic ap aptt ards aso
    ast asa asd avr avm awv bid bka bls bmi bmp bnp bph bppv bun cabg cad cbc cbi cbt cea chf ckd cml cmp cmv cns copd
    cp cpap bipap cpk cpr crp csf ct cta ctap cva cvc cvp cxr dca ddd dexa dic dka dm dnr dni doe dre dtr dts dvt dxa
    ebl ebv ecg echo ecmo eeg ef egd ekg emg emr ent ercp esr esrd etoh eua ett evar fap fev fna fobt fsh ftt fuo fvc
    gbs gcs gerd gfr ggt gi gib gtt gu hbv hcc hcg hctz hcv hdl heent hellp hep hf hfpef hfref hida hiit hiv hit hlh
    hpi hpv hrt hsv htn hus ibd ibs icd ich icp icsi iddm igg ild imrt inr ipf itp iud iugr iv ivc ivf ivig jvd kub
    lad lbbb ldh ldl leep lfts lft lh llq lmwh lp luq lv lvad lvef lvh mac mca mch mcv mdd mds meld mgus mi mmse moca
    mra mrcp mri mrsa ms msk mssa mvc mvp nafld nash nebs ng ngt nicm nicu niddm nihss nkda npo npdr nsaid nsaids
    nsclc nsr nstemi nsvd nyha ocd ocp oa ob op orif osa otc pacu pad pah pap pcos pci pcl pcp pcr pcv pda pe peep peg
    pet pfo pft pfts pid picc plt pmh pmr pna po ponv ppd ppi ppm prbc prn prom pprom psa psh psv pt pta ptca ptsd ptt
    pud pvc pvd ra rbbb rbc rca rds rfa rlq rlqp rls rom ros rpr rsv ruq rv rvr sah sbo sbp sbrt scc sclc sdh sgot
    sgpt siadh sids sirs sle slr soap sob ssi ssri stat std stemi sti svt tah tavr tavi tb tbi tca tcu tee tens tha
    thr tia tibc tips tka tkr tlif tlso tmj tnf toc tolac tpa tpn tsh tte tur turp tvus uti urti uri us uta vac vats
    vbac vdrl vf vfib vp vre vsd vt vte vzv wbc wbat wnl wpw xrt a1c hba1c ldct ppx abx bpm dob dos mrn ssn npi dea cc
    hx tx dx rx sx fx qhs tid qid cabgx3 rsi apap asap phq phq9 gad gad7 cage audit ciwa cows sofa apache curb wells
    has-bled chads perc stop-bang"""
)
DEPARTMENTS = _words(
    """er ed ccu icu micu sicu cticu cvicu nicu picu or pacu l&d obgyn ob gyn ent rehab snf ltac ltc irf pcu tcu imc
    med surg ir ems ett pt ot slp rt dme hha pcp eicu csu cath lab neuro ortho onc heme peds psych derm gi gu cards
    pulm radiology pathology cardiology neurology oncology pediatrics psychiatry surgery orthopedics dermatology
    urology nephrology gastroenterology hematology endocrinology ophthalmology pharmacy triage telemetry anesthesia"""
)
CREDENTIALS_EXTRA = _words(
    """aud cgc rpsgt mls rrt crt rdcs rdms rvt rt rtr rtt cnmt cphq ccm cde cdces bcps bcacp rphd lmft lpc lcpc lmhc
    lac lmt otr otrl cota pta mpt cccslp bcba lbsw lmsw acsw cnor ccrn cen rnc rnfa cnl cns whnp pmhnp agnp acnp
    agacnp fnp np-c pa-c emtp nremt ascp mt mlt ct ht htl pbt cst cfa ccp lp rpa cma ccma rma cpt cpc ccs rhia rhit
    mha mhs mmsc facog facep facr fccp fasn facg fache facoi facos fapa faan fahs fhm sfhm mrcgp frca frcog frcpath
    ffarcs dch dgo mch mbchir bds bvsc drph scd edd msc bsc bs ba aprn crnp"""
)

# Labels of forms and tables: what stands in the next column of a header is a label, not a part of the name.
FORM_WORDS = _words(
    """study subject id dob mrn ssn sex age date time name patient pt phone fax email address account acct visit room
    bed unit provider physician attending referring pcp insurance policy group plan member number no ref report status
    gender location facility department service specimen accession collected received reported ordered admit admitted
    discharge discharged procedure diagnosis birth record medical of encounter type result results order the and
    signed dictated transcribed job electronically"""
)
